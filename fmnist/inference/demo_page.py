"""The web page of ``fmnist.demo``: a picture or a drawing, the network's input and its prediction. Needs Gradio."""

import html
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from fmnist.config.errors import UserError
from fmnist.data.pictures import as_image, decode
from fmnist.data.spec import DataSpec
from fmnist.inference.pictures import prepare

# Pixels of the page.
SIDE = 392  # height of a picture: 14 times that of the network's input
BRUSH = 28  # a line is still two pixels wide in the network's input
COLUMN = 260  # minimum width: three columns, if the window has room for them

Classify = Callable[[Tensor], list[dict[str, float]]]  # uint8 [B, C, H, W] to class probabilities by name
Outputs = tuple[dict[str, float] | None, Image.Image | None, str]  # probabilities, input of the network, message
EMPTY: Outputs = None, None, ""


def classify_file(classify: Classify, spec: DataSpec, file: dict[str, Any] | None) -> Outputs:
    """Classifies an uploaded file, as described by Gradio; None after its removal."""
    if file is None:
        return EMPTY
    name = file["orig_name"] or "the picture"
    return _classify(
        classify, spec, lambda: decode(BytesIO(Path(file["path"]).read_bytes()), name, at_least=spec.decoded_size)
    )


def classify_drawing(classify: Classify, spec: DataSpec, drawing: dict[str, Image.Image | None] | None) -> Outputs:
    """Classifies a drawing, black on white, as described by Gradio's Sketchpad."""
    picture = drawing["composite"] if drawing else None
    if picture is None or picture.getextrema() == (255, 255):  # nothing drawn yet
        return EMPTY
    return _classify(classify, spec, lambda: picture)


def _classify(classify: Classify, spec: DataSpec, read: Callable[[], Image.Image]) -> Outputs:
    try:
        pixels = prepare(read(), spec)
    except UserError as error:
        return None, None, html.escape(str(error))
    (probabilities,) = classify(torch.from_numpy(pixels)[None])
    return probabilities, Image.fromarray(as_image(pixels)).resize((SIDE, SIDE), Image.Resampling.NEAREST), ""


def page(classify: Classify, spec: DataSpec, description: str) -> gr.Blocks:
    """Builds the page.

    Args:
        classify: The network.
        spec: The data set that it was trained on.
        description: Name of the network, shown below the title.
    """
    blocks = gr.Blocks(title="fmnist", analytics_enabled=False)
    with blocks:
        gr.HTML(
            "<h1>What is it?</h1>"
            f"<p>A network, trained on {html.escape(spec.name)}, tells {spec.num_classes} classes apart. "
            "Drop a picture, or draw one.</p>"
            f"<p class='network'>{html.escape(description)}</p>",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(min_width=COLUMN):
                with gr.Tab("Picture") as picture_tab:
                    file = gr.Image(
                        sources=["upload", "clipboard"], height=SIDE, show_label=False, buttons=[], elem_id="picture"
                    )
                with gr.Tab("Drawing") as drawing_tab:
                    drawing = gr.Sketchpad(
                        type="pil",
                        image_mode="L",
                        canvas_size=(SIDE, SIDE),
                        fixed_canvas=True,
                        layers=False,
                        transforms=(),
                        brush=gr.Brush(default_size=BRUSH, colors=["#000000"], color_mode="fixed"),
                        show_label=False,
                        buttons=[],
                        height=SIDE,
                        elem_id="drawing",
                    )
                message = gr.HTML(elem_id="message")
            with gr.Column(min_width=COLUMN), gr.Tab("Input of the network"):
                seen = gr.Image(
                    format="png", height=SIDE, interactive=False, show_label=False, buttons=[], elem_id="seen"
                )
            with gr.Column(min_width=COLUMN), gr.Tab("Prediction"):
                answer = gr.Label(num_top_classes=10, show_label=False, elem_id="answer")
        outputs = [answer, seen, message]
        gr.on(
            [file.change, picture_tab.select],
            partial(classify_file, classify, spec),
            file,
            outputs,
            preprocess=False,  # else Gradio opens the file and, if it cannot, shows its own message
            api_visibility="private",
            show_progress="hidden",
        )
        gr.on(
            [drawing.change, drawing_tab.select],
            partial(classify_drawing, classify, spec),
            drawing,
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        gr.on([drawing_tab.select, drawing.clear], js=SELECT_BRUSH)
    return blocks


# Drawing needs a click on the brush, which appears some time after the tab.
SELECT_BRUSH = """() => {
    const clock = setInterval(() => {
        const brush = document.querySelector("#drawing [aria-label=Brush]")
        if (brush) { clearInterval(clock); brush.click() }
    }, 500)
}"""

# Weight 400, since Gradio's bolder font lacks letters.
CSS = f"""
#title h1, #answer h2 {{ font-weight: 400 }}
#title .network {{ opacity: 0.7 }}
#picture img, #seen img {{ width: 100%; height: 100%; object-fit: contain }}
#answer {{ min-height: {SIDE}px }}
#answer h2 {{ padding: 0 0 6px 0 }}
#answer .confidence-set {{ margin-bottom: 4px }}
#message {{ color: var(--error-text-color) }}
"""
