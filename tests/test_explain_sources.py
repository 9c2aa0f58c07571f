"""Which files ``se-zoo explain`` takes, and what their pictures are called."""

from pathlib import Path
from typing import List, Tuple

import pytest

from se_zoo import InvalidInputError
from se_zoo.cli.sources import find_sources, picture_names
from se_zoo.text import counted, printable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with photos in it."""
    names = ("x/a.jpg", "x/sub/b.PNG", "y/a.jpg", "y/c.mp4", "y/d.txt", "z/a[1].jpg", "z/a1.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words, found, root",
    [
        (["x"], ["x/a.jpg", "x/sub/b.PNG"], "x"),
        (["x/"], ["x/a.jpg", "x/sub/b.PNG"], "x"),
        (["y", "x"], ["y/a.jpg", "y/c.mp4", "x/a.jpg", "x/sub/b.PNG"], "."),
        (["x/sub"], ["x/sub/b.PNG"], "x/sub"),
        (["*/a.jpg"], ["x/a.jpg", "y/a.jpg"], "."),
        (["x/**/*"], ["x/a.jpg", "x/sub/b.PNG"], "x"),
        (["y/d.txt", "y/d.txt", "y"], ["y/d.txt", "y/a.jpg", "y/c.mp4"], "y"),  # named: taken
        (["z/a[1].jpg"], ["z/a[1].jpg"], "z"),  # a file of that name comes before the pattern
        (["x/a.jpg", "x/sub/b.PNG"], ["x/a.jpg", "x/sub/b.PNG"], "x"),
    ],
)
def test_files_folders_and_patterns(
    folder: Path, words: List[str], found: List[str], root: str
) -> None:
    sources, common = find_sources(words)
    assert [source.path.as_posix() for source in sources] == found
    assert common == (folder / root).resolve() or common == folder / root
    assert len(set(picture_names([s.path for s in sources], common, ".png"))) == len(found)


@pytest.mark.parametrize(
    "words, says",
    [
        (["x", "x/no.jpg"], "no such file or folder: x/no.jpg"),
        (["x/*.gif"], "no photo or video in x/*.gif"),
        (["x", "x/sub/none*"], "no photo or video in x/sub/none*"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_refused(words: List[str], says: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        find_sources(words)
    assert says in str(error.value)


@pytest.mark.usefixtures("folder")
def test_folder_of_pictures_is_left_out() -> None:
    sources, _ = find_sources(["x"], leave_out=Path("x") / "sub")
    assert [source.path.as_posix() for source in sources] == ["x/a.jpg"]


@pytest.mark.parametrize(
    "files, pictures",
    [
        (("a.jpg", "b/a.jpg"), ("a.png", "b/a.png")),
        (("a.jpg", "a.gif", "b.gif"), ("a.jpg.png", "a.gif.png", "b.png")),
        (("a.jpg", "A.gif", "b.gif"), ("a.jpg.png", "A.gif.png", "b.png")),
        (("a.jpg", "a.gif", "a.gif.bmp"), ("a.jpg.png", "a.gif.png", "a.gif.bmp.png")),
        (("plain",), ("plain.png",)),
    ],
)
def test_pictures_have_different_names(files: Tuple[str, ...], pictures: Tuple[str, ...]) -> None:
    root = Path("photos").absolute()
    names = picture_names([root / name for name in files], root, ".png")
    assert tuple(name.as_posix() for name in names) == pictures


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Grüße 写真.jpg", "Grüße 写真.jpg"),
        ("a\x1b[31m\r\n\x07b", r"a\x1b[31m\r\n\x07b"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_only_printable_characters_reach_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_nouns_agree_with_their_numbers() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
