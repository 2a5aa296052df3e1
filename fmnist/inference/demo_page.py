"""The page of ``fmnist.demo``: a picture or a drawing, what the network saw, and what it says. Needs Gradio."""

import html
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import nn

from fmnist.config.errors import UserError
from fmnist.data.files import CLASS_NAMES
from fmnist.inference.pictures import decode, prepare
from fmnist.inference.trained import probabilities

SIDE = 392  # pixels of the page: height of each picture, 14 times that of what the network sees
BRUSH = 28  # pixels of the page: what is drawn is still two pixels wide when the network sees it
COLUMN = 260  # pixels of the page: three columns, as long as each is so wide

Answer = tuple[dict[str, float] | None, Image.Image | None, str]  # probabilities, what the network saw, a message
NOTHING: Answer = None, None, ""


def of_file(network: nn.Module, file: dict[str, Any] | None) -> Answer:
    """Looks at an uploaded file, as Gradio describes it; None if it was taken away."""
    if file is None:
        return NOTHING
    name = file["orig_name"] or "the picture"
    return _look(network, lambda: decode(BytesIO(Path(file["path"]).read_bytes()), name))


def of_drawing(network: nn.Module, drawing: dict[str, Image.Image | None] | None) -> Answer:
    """Looks at a drawing, black on white, as Gradio's Sketchpad describes it."""
    picture = drawing["composite"] if drawing else None
    if picture is None or picture.getextrema() == (255, 255):  # nothing is drawn yet
        return NOTHING
    return _look(network, lambda: picture)


def _look(network: nn.Module, read: Callable[[], Image.Image]) -> Answer:
    try:
        pixels = prepare(read())
    except UserError as error:
        return None, None, html.escape(str(error))
    (row,) = probabilities(network, torch.from_numpy(pixels)[None, None])
    seen = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return dict(zip(CLASS_NAMES, row.tolist(), strict=True)), seen, ""


def page(network: nn.Module, description: str) -> gr.Blocks:
    """The page.

    Args:
        network: From raw pixels to logits, in evaluation mode.
        description: What to say of it.
    """
    blocks = gr.Blocks(title="fmnist", analytics_enabled=False)
    with blocks:
        gr.HTML(
            "<h1>Which garment is it?</h1>"
            "<p>A convolutional network, trained on Fashion-MNIST, tells ten kinds of clothing apart. "
            "Drop a picture of one garment, or draw one.</p>"
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
            with gr.Column(min_width=COLUMN), gr.Tab("What the network saw"):
                seen = gr.Image(
                    format="png", height=SIDE, interactive=False, show_label=False, buttons=[], elem_id="seen"
                )
            with gr.Column(min_width=COLUMN), gr.Tab("What it says"):
                answer = gr.Label(num_top_classes=len(CLASS_NAMES), show_label=False, elem_id="answer")
        outputs = [answer, seen, message]
        gr.on(
            [file.change, picture_tab.select],
            partial(of_file, network),
            file,
            outputs,
            preprocess=False,  # else Gradio opens the file, and when it cannot, says so in words of its own
            api_visibility="private",
            show_progress="hidden",
        )
        gr.on(
            [drawing.change, drawing_tab.select],
            partial(of_drawing, network),
            drawing,
            outputs,
            api_visibility="private",
            show_progress="hidden",
        )
        gr.on([drawing_tab.select, drawing.clear], js=TAKE_THE_BRUSH)
    return blocks


# Gradio lets one draw only after a click on the brush, which is there when the tab has been drawn.
TAKE_THE_BRUSH = """() => {
    const clock = setInterval(() => {
        const brush = document.querySelector("#drawing [aria-label=Brush]")
        if (brush) { clearInterval(clock); brush.click() }
    }, 500)
}"""

# In weight 400, since the bolder font that Gradio brings lacks letters.
CSS = f"""
#title h1, #answer h2 {{ font-weight: 400 }}
#title .network {{ opacity: 0.7 }}
#picture img, #seen img {{ width: 100%; height: 100%; object-fit: contain }}
#answer {{ min-height: {SIDE}px }}
#answer h2 {{ padding: 0 0 6px 0 }}
#answer .confidence-set {{ margin-bottom: 4px }}
#message {{ color: var(--error-text-color) }}
"""
