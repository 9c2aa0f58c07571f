"""The demo on a server, with Gradio: photos by any timm model, clips, and who speaks."""

from typing import Any, Optional, Sequence

from ..errors import InvalidInputError
from ..inference.images import demo_photo
from .explainers import Explainers
from .tabs import STYLE, photo_tab, video_tab

#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Most photos and videos that wait; further ones are told to come back later.
QUEUE = 64
#: Seconds between two clean-ups, and age of the files that each deletes. Together they are a day:
#: the page promises that no file stays for longer.
DELETE = (3600, 86400 - 3600)
#: Largest file that is taken: half a minute of a phone's video.
MAX_FILE = "64mb"
_ABOUT = """# Why this label?

Choose a photo or a video, and a model. The pictures show which parts count. In the maps of
`contribution`, `affinity`, `rivals` and `difference` one colour speaks for the label and the other
against it; in the other maps strong colours mark what counts. A map shows where the evidence lies
in the model. It does not show that the model is right.

Your file is sent to the server that runs this page, which deletes it within a day."""


def build(explainers: Explainers) -> Any:
    """Return the Gradio app, with a tab for photos and one for videos, where there are models.

    Args:
        explainers: The models.

    Returns:
        A ``gradio.Blocks``, with the queue's limits.

    Raises:
        InvalidInputError: If the extra ``demo`` is not installed.
    """
    gradio = _gradio()
    with gradio.Blocks(
        title="Why this label?", analytics_enabled=False, delete_cache=DELETE
    ) as app:
        gradio.Markdown(_ABOUT)
        if explainers.names:
            with gradio.Tab("Photos"):
                photo_tab(gradio, explainers, demo_photo())
        if explainers.videos.names:
            with gradio.Tab("Videos"):
                video_tab(gradio, explainers.videos)
    app.queue(max_size=QUEUE, default_concurrency_limit=1)
    return app


def serve(
    names: Sequence[str],
    host: str = "127.0.0.1",
    port: Optional[int] = None,
) -> None:
    """Load models, and serve the demo until the process is interrupted.

    Args:
        names: Models, as :class:`Explainers` takes them.
        host: Address to listen on. Users may name further timm models on loopback only, because
            each is downloaded to the server.
        port: Port to listen on; by default the first free one from 7860.

    Raises:
        InvalidInputError: If the extra ``demo`` is not installed.
        UnknownModelError: If a model is unknown.
        WeightsNotFoundError: If weights cannot be fetched.
    """
    gradio = _gradio()
    app = build(Explainers(names, any_model=host in LOOPBACK))
    theme = gradio.themes.Default(  # no fonts of other servers
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    _, address, _ = app.launch(
        server_name=host, server_port=port, share=False, max_file_size=MAX_FILE, show_error=True,
        prevent_thread_lock=True, quiet=True, ssr_mode=False, enable_monitoring=False, theme=theme,
        css=STYLE,
    )  # fmt: skip
    print(f"The demo runs at {address}; stop it with Ctrl+C.", flush=True)
    app.block_thread()


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise InvalidInputError(
            f'The demo needs the extra demo: pip install "se_zoo[demo]" ({error}).'
        ) from error
    return gradio
