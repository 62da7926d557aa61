"""Pictures: right is where it says, contours are where labels are, voxels keep their shape."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from medsynth import show
from medsynth.core.labels import BRAIN
from medsynth.core.volume import LabelMap, Volume


def _case(spacing: tuple[float, float, float] = (1, 1, 1)) -> tuple[Volume, LabelMap]:
    """A cube of brain with a tumour on the patient's right (large i)."""
    data = np.zeros((40, 40, 40), np.uint8)
    data[5:35, 5:35, 5:35] = BRAIN.value("WM")
    data[26:32, 16:24, 16:24] = BRAIN.value("ET")
    affine = np.diag([*spacing, 1.0])
    labels = LabelMap(data, affine, BRAIN)
    scan = (data > 0) * 100.0 + (data == BRAIN.value("ET")) * 400
    return Volume(scan[None].astype(np.float32), affine, ("t1c",)), labels


def _pixels(figure: object, path: Path) -> np.ndarray:
    show.save(figure, path)  # type: ignore[arg-type]
    return np.asarray(matplotlib.image.imread(path))[..., :3]


def test_the_patients_right_is_on_the_left(tmp_path: Path) -> None:
    scans, labels = _case()
    pixels = _pixels(show.figure_rows([show.Row("x", scans, labels)]), tmp_path / "a.png")
    panel = pixels[:, pixels.shape[1] // 2 :]  # the scan, beside the label map
    bright = np.argwhere(panel.min(-1) > 0.85)
    brain = np.argwhere((panel.max(-1) > 0.1) & (np.ptp(panel, axis=-1) < 0.05))
    assert bright[:, 1].mean() < brain[:, 1].mean() - 10


def test_contours_have_the_colour_of_the_scheme(tmp_path: Path) -> None:
    scans, labels = _case()
    pixels = _pixels(show.montage([("t1c", scans), ("labels", labels)]), tmp_path / "a.png")
    yellow = np.array([0xDD, 0xAA, 0x33]) / 255
    hits = np.abs(pixels - yellow).max(-1) < 0.1
    assert hits.sum() > 50
    bare = _pixels(show.montage([("t1c", scans)]), tmp_path / "b.png")
    assert (np.abs(bare - yellow).max(-1) < 0.1).sum() == 0


def test_outlines_are_those_of_the_scans_own_case(tmp_path: Path) -> None:
    """Two cases on one grid, the second without a tumour: its scan stays bare."""
    scans, labels = _case()
    healthy = labels.with_data(np.minimum(labels.data, BRAIN.value("WM")))
    plain = show.montage([("b-t1c", scans), ("a-brain", labels), ("b-brain", healthy)])
    assert not plain.axes[0].collections
    outlined = show.montage([("a-t1c", scans), ("a-brain", labels), ("b-brain", healthy)])
    assert outlined.axes[0].collections


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    scans, labels = _case()
    for name in ("a.png", "b.png"):
        show.save(show.previews(labels, scans, scans), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_odd_input_is_shown_all_the_same(tmp_path: Path) -> None:
    scans, labels = _case((1, 1, 5))
    healthy = labels.with_data(np.minimum(labels.data, BRAIN.value("WM")))
    thin = Volume(np.ones((1, 20, 20, 1), np.float32), np.eye(4), ("t1n",))
    empty = Volume(np.zeros((1, 9, 9, 9), np.float32), np.eye(4), ("t1n",))
    for index, figure in enumerate([show.figure_rows([show.Row("healthy", scans, healthy)]),
                                    show.montage([("thin", thin)]),
                                    show.montage([("empty", empty)])]):  # fmt: skip
        assert _pixels(figure, tmp_path / f"{index}.png").size


def test_the_legend_names_what_is_there(tmp_path: Path) -> None:
    """And a phantom is a target of training, whatever it is, not a real scan."""
    scans, labels = _case()
    healthy = labels.with_data(np.minimum(labels.data, BRAIN.value("WM")))
    figure = show.previews(labels, scans, scans)
    for shown, names in ((figure, ["WM", "ET"]), (show.previews(healthy, scans, scans), ["WM"])):
        told = [text.get_text() for text in shown.legends[0].get_texts()]
        assert [text.split()[0] for text in told] == names
    titles = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert titles == ["target", "generated"]


def test_figures_without_interval_are_points(tmp_path: Path) -> None:
    figure = show.intervals([("a", (0.5, None, None)), ("b", (0.5, 0.4, 0.6))], "Dice")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [1, 2, 1]
    line = show.curves({"a": [(0.5, (0.1, None, None)), (1, (0.2, 0.1, 0.3))]}, "x", "y")
    assert list(line.axes[0].lines[0].get_ydata()) == [0.1, 0.2]


def test_neighbours_are_shown_at_one_height() -> None:
    """The tumour of the first lies high in the brain, that of the second low."""
    scans, labels = _case()
    bare = np.minimum(labels.data, BRAIN.value("WM"))

    def with_tumour(lowest: int) -> LabelMap:
        data = bare.copy()
        data[26:32, 16:24, lowest : lowest + 3] = BRAIN.value("ET")
        return labels.with_data(data)

    high, low = with_tumour(28), with_tumour(8)
    at = show.height(high)
    assert show.height(low) < 0.2 < 0.7 < at
    for labels_of in (high, low):
        assert show._at_height(labels_of, at) == show.slice_of(high)
    figure = show.figure_rows([show.Row("a", scans, high), show.Row("b", scans, low, at)])
    assert figure.axes[1].collections
    assert not figure.axes[3].collections  # the second one's tumour is elsewhere
    assert show.figure_rows([show.Row("b", scans, low)]).axes[1].collections


def test_figures_show_themselves_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipyniivue", None)  # not installed
    scans, labels = _case()
    figure = show.view(scans, labels)
    show.save(figure, tmp_path / "a.png")
    assert figure._repr_png_() == (tmp_path / "a.png").read_bytes()
    shown = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    assert shown[..., :3].max() == 1
    assert figure.axes[0].collections  # outlines on the scan


def test_volumes_to_scroll_through_where_the_viewer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the viewer is given: a scan on its grid, labels in the colours of their scheme."""
    colours: list[dict[str, Any]] = []

    class NiiVue:
        def load_volumes(self, volumes: list[dict[str, Any]]) -> None:
            self.given = volumes
            self.volumes = [SimpleNamespace(set_colormap_label=colours.append) for _ in volumes]

    monkeypatch.setitem(sys.modules, "ipyniivue", SimpleNamespace(NiiVue=NiiVue))
    scans, labels = _case((1, 2, 3))
    widget = show.view(scans, labels)
    scan, over = (nib.Nifti1Image.from_bytes(volume["data"]) for volume in widget.given)
    assert (np.asarray(scan.dataobj) == scans.channel("t1c")).all()
    assert (np.asarray(over.dataobj) == labels.data).all()
    assert (over.affine == labels.affine).all()
    (table,) = colours
    at = table["labels"].index("ET")
    assert table["I"][at] == BRAIN.value("ET")
    assert (table["R"][at], table["G"][at], table["B"][at]) == (0xDD, 0xAA, 0x33)
    assert (table["A"][0], table["A"][at]) == (0, 255)
