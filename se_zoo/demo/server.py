"""The demo on a server, with Gradio: any timm model, and all methods side by side."""

import html
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from ..errors import InvalidInputError
from ..inference.images import demo_photo
from .explainers import SHOWN_LABELS, Explainers, sentence

#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Most photos that wait; further ones are told to come back later.
QUEUE = 64
#: Largest file that is taken.
MAX_FILE = "20mb"
_ABOUT = """# Why this label?

Choose a photo and a model. The pictures show which parts of the photo count, by every method. In
the maps of `contribution` and `difference` one colour speaks for the label and the other against
it; in the other maps strong colours mark what counts. A map shows where the evidence lies in the
model. It does not show that the model is right.

The photo is sent to the server that runs this page, which deletes it within a day."""


def build(explainers: Explainers) -> Any:
    """Return the Gradio app.

    Args:
        explainers: The models.

    Returns:
        A ``gradio.Blocks``, with the queue's limits.

    Raises:
        InvalidInputError: If the extra ``demo`` is not installed.
    """
    gradio = _gradio()
    names = list(explainers.names)

    def explain(
        photo: Optional[str], model: str, label: Optional[str], versus: Optional[str]
    ) -> Tuple[Any, List[Tuple[Any, str]], str]:
        try:
            file = Path(photo) if photo else None
            return tuple(explainers.answer(file, model, label, versus))  # type: ignore[return-value]
        except Exception as error:
            # The message may quote what a user typed, and Gradio shows it as HTML.
            raise gradio.Error(html.escape(sentence(error))) from error

    def choose_model(model: str) -> Tuple[Any, Any]:
        try:
            labels = explainers.labels(model)
        except Exception as error:
            raise gradio.Error(html.escape(sentence(error))) from error
        return tuple(gradio.Dropdown(choices=labels, value=None) for _ in range(2))  # type: ignore[return-value]

    # delete_cache: every hour, files that are older than a day.
    with gradio.Blocks(
        title="Why this label?", analytics_enabled=False, delete_cache=(3600, 86400)
    ) as app:
        gradio.Markdown(_ABOUT)
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                photo = gradio.Image(
                    type="filepath", label="Photo", height=300,
                    sources=["upload", "webcam", "clipboard"],
                )  # fmt: skip
                # Gradio would decode the file before its size is known, and turn errors into its
                # own; it has checked already that the file was uploaded.
                photo.preprocess = lambda payload: payload and payload.path
                any_model = explainers.any_model
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
        gradio.Examples([[str(demo_photo())]], [photo], label="Example")
        outputs = [shares, gallery, notes]
        button.click(explain, [photo, model, label, versus], outputs, api_name="explain")
        photo.upload(explain, [photo, model, label, versus], outputs, api_name=False)
        model.change(choose_model, [model], [label, versus], api_name="labels")
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
        InvalidInputError: If the extra ``demo`` is not installed, or a model takes clips.
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
    )  # fmt: skip
    print(f"The demo runs at {address}; stop it with Ctrl+C.", flush=True)
    app.block_thread()


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise InvalidInputError(
            f"The demo needs the extra demo: pip install 'se_zoo[demo]' ({error})."
        ) from error
    return gradio
