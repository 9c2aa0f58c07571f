"""What users see of the server's demo: a tab for photos, and one for videos."""

import functools
import html
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

from .explainers import Explainers, sentence
from .videos import MAX_SECONDS, SHOWN_LABELS, VideoExplainers

#: Id of the component that takes a video.
VIDEO = "video"
#: Hides its scissors, for which Gradio's page would load a program from another server.
STYLE = f"#{VIDEO} button[aria-label='Trim video to selection'] {{ display: none; }}"


def photo_tab(gradio: Any, explainers: Explainers, example: Path) -> None:
    """Add the components and events of photos to the current context of Gradio.

    Args:
        gradio: The module.
        explainers: The models.
        example: A photo to begin with.
    """
    names, any_model = list(explainers.names), explainers.any_model

    def explain(
        photo: Optional[str], model: str, label: Optional[str], versus: Optional[str]
    ) -> Tuple[Any, List[Tuple[Any, str]], str]:
        file = Path(photo) if photo else None
        return tuple(explainers.answer(file, model, label, versus))  # type: ignore[return-value]

    def choose_model(model: str) -> Tuple[Any, Any]:
        labels = explainers.labels(model)
        return tuple(gradio.Dropdown(choices=labels, value=None) for _ in range(2))  # type: ignore[return-value]

    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            photo = gradio.Image(
                type="filepath", label="Photo", height=300,
                sources=["upload", "webcam", "clipboard"],
            )  # fmt: skip
            _take_path_alone(photo)
            model = gradio.Dropdown(
                names, value=names[0], label="Model", allow_custom_value=any_model,
                info="Type any timm model's name for others." if any_model else None,
            )  # fmt: skip
            labels = explainers.labels(names[0])
            label = gradio.Dropdown(
                labels, value=None, label="Label", info="The likeliest if none is chosen."
            )
            versus = gradio.Dropdown(
                labels, value=None, label="Compared with",
                info="For the difference map; the likeliest other if none is chosen.",
            )  # fmt: skip
            button = gradio.Button("Explain", variant="primary")
        with gradio.Column(scale=3):
            notes = gradio.Markdown()
            gallery = gradio.Gallery(
                label="Maps", columns=3, object_fit="contain", height="auto", format="png"
            )
            shares = gradio.Label(label="Predictions", num_top_classes=SHOWN_LABELS)
    gradio.Examples([[str(example)]], [photo], label="Example")
    asked, outputs = [photo, model, label, versus], [shares, gallery, notes]
    answer = _saying(gradio, explain)
    button.click(answer, asked, outputs, api_name="explain")
    photo.upload(answer, asked, outputs, api_name=False)
    model.change(_saying(gradio, choose_model), [model], [label, versus], api_name="labels")


def video_tab(gradio: Any, explainers: VideoExplainers) -> None:
    """Add the components and events of videos to the current context of Gradio.

    Args:
        gradio: The module.
        explainers: The models; at least one.
    """
    names = list(explainers.names)

    def explain(
        video: Optional[str], model: str, label: Optional[str], method: str
    ) -> Tuple[str, Any, str]:
        # In a folder of Gradio's own, which deletes what it has served. Its name cannot be guessed.
        Path(drawn.GRADIO_CACHE).mkdir(parents=True, exist_ok=True)
        out = Path(tempfile.mkdtemp(dir=drawn.GRADIO_CACHE)) / "explained.mp4"
        try:
            file = Path(video) if video else None
            shares, notes = explainers.answer(file, model, label, method, out)
        except BaseException:
            shutil.rmtree(out.parent)
            raise
        return str(out), shares, notes

    def choose_model(model: str) -> Tuple[Any, Any, Any]:
        has_labels = bool(explainers.labels(model))
        return *_choices(gradio, explainers, model), gradio.Label(visible=has_labels)

    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            video = gradio.Video(
                label=f"Video of at most {MAX_SECONDS} seconds", height=300,
                sources=["upload", "webcam"], include_audio=True, elem_id=VIDEO,
            )  # fmt: skip
            _take_path_alone(video)
            model = gradio.Dropdown(names, value=names[0], label="Model")
            label, method = _choices(gradio, explainers, names[0])
            button = gradio.Button("Explain", variant="primary")
        with gradio.Column(scale=3):
            notes = gradio.Markdown()
            drawn = gradio.Video(label="Explained", interactive=False, height=480)
            shares = gradio.Label(
                label="Predictions", num_top_classes=SHOWN_LABELS,
                visible=bool(explainers.labels(names[0])),
            )  # fmt: skip
    outputs = [drawn, shares, notes]
    answer = _saying(gradio, explain)
    button.click(answer, [video, model, label, method], outputs, api_name="explain_video")
    model.change(_saying(gradio, choose_model), [model], [label, method, shares], api_name="maps")


def _choices(gradio: Any, explainers: VideoExplainers, model: str) -> Tuple[Any, Any]:
    """Return the choice of a model's labels, and that of its maps."""
    labels, methods = explainers.labels(model), explainers.methods(model)
    return (
        gradio.Dropdown(
            labels, value=None, label="Label", interactive=bool(labels), visible=bool(labels),
            info="The likeliest if none is chosen.",
        ),
        gradio.Dropdown(methods, value=methods[0], label="Map"),
    )  # fmt: skip


def _take_path_alone(component: Any) -> None:
    """Give a component's file to the event as it was uploaded.

    Gradio would decode it before its size is known, and turn errors into its own; it has checked
    already that the file was uploaded.
    """
    component.preprocess = lambda payload: payload and payload.path


def _saying(gradio: Any, event: Callable[..., Any]) -> Callable[..., Any]:
    """Return an event whose errors are sentences for users."""

    @functools.wraps(event)  # Gradio looks at the arguments
    def answer(*args: Any) -> Any:
        try:
            return event(*args)
        except Exception as error:
            # The message may quote what a user typed, and Gradio shows it as HTML.
            raise gradio.Error(html.escape(sentence(error))) from error

    return answer
