"""The report: its page is taken apart by Python's XML parser, and looked at by a real browser where there is one."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from experiments import report
from jaxhash.plots import style as plots
from jaxhash.plots.sweeps import capacity
from jaxhash.terminal.report import MOST_ROWS, configuration, read_run

HOSTILE = """<script>alert("1")</script>&amp;'"><img src=http://example.org/x onerror=alert(2)>"""


class Page:
    """A page as its tags say it: XML's parser refuses tags that do not close each other."""

    def __init__(self, path):
        root = ElementTree.fromstring(path.read_text())
        self.tags = {element.tag for element in root.iter()}
        attributes = [item for element in root.iter() for item in element.items()]
        assert not any(name.startswith("on") for name, _ in attributes)
        loading = ("src", "href", "srcset", "data", "action")
        self.schemes = {value.partition(":")[0] for name, value in attributes if name in loading}
        self.images = [image.attrib for image in root.iter("img")]
        self.tables = [[[cell.text or "" for cell in row] for row in table.iter("tr")] for table in root.iter("table")]
        self.values = {name.text: text.text for name, text in zip(root.iter("dt"), root.iter("dd"), strict=True)}
        self.text = "".join(root.itertext())


def write_page(*folders, out):
    report.main([*map(str, folders), "--out", str(out)])
    return Page(out)


@pytest.fixture(scope="module")
def sweep_run(trained, tmp_path_factory):
    """The folder of a real sweep, with its picture."""
    folder = tmp_path_factory.mktemp("runs") / "model_capacity-digits"
    folder.mkdir()
    for name in ("config.json", "results.nc", "results.csv"):
        shutil.copy(trained.out / name, folder)
    figure = capacity(trained.results, "digits & co.")
    plots.save(figure, folder / "model_capacity.png")
    return folder


def test_numbers_of_a_sweep_are_the_means_of_its_csv(sweep_run, tmp_path):
    page = write_page(sweep_run, out=tmp_path / "new" / "report.html")
    (table,) = page.tables
    expected = pd.read_csv(sweep_run / "results.csv").groupby("width").mean()
    header = [name.replace(" ", "_") for name in table[0]]
    assert header[0] == "width"
    assert set(header[1:]) == set(expected.columns) - {"repeat"}
    assert len(table) == 1 + len(expected)
    for row in table[1:]:
        for name, cell in zip(header[1:], row[1:], strict=True):
            assert float(cell) == float(f"{expected.loc[int(row[0]), name]:.4g}"), (row[0], name)


def test_a_sweeps_configuration_versions_and_picture_are_on_the_page(sweep_run, tmp_path):
    page = write_page(sweep_run, out=tmp_path / "report.html")
    noted = json.loads((sweep_run / "config.json").read_text())
    values = page.values
    assert values["widths"] == "20 3 40"
    assert values["train.batch_size"] == "32"
    assert values["model.depth"] == "1"
    for name, version in noted["versions"].items():
        assert values[name] == version
    (image,) = page.images
    assert image["alt"].startswith("digits & co.. Determinism: redundancy ratio of the codes against width")
    assert (image["width"], image["height"]) == ("1500", "630")
    assert image["src"].startswith("data:image/png;base64,iVBOR")
    assert "not finished" not in page.text


def test_the_page_loads_nothing_and_runs_nothing(sweep_run, tmp_path):
    page = write_page(sweep_run, out=tmp_path / "report.html")
    assert page.schemes == {"data", "#run-1"}
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    style = re.search("<style>(.*?)</style>", (tmp_path / "report.html").read_text(), re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert "default-src 'none'" in (tmp_path / "report.html").read_text()


def write_hash_run(folder):
    """As the hash experiments write theirs: learners of unequal length, filled up with NaN."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 40))
    values[1, :, 25:] = np.nan
    dims = ("learner", "repeat", "iteration")
    data = xr.Dataset(
        {"collisions": (dims, values), "cold": (("repeat", "key_set"), rng.normal(size=(3, 4)))},
        {"learner": ["long", "short"], "repeat": range(3), "iteration": range(1, 41)},
    )
    (folder / "results.nc").write_bytes(bytes(data.to_netcdf(engine="scipy")))
    return data


def test_numbers_along_iterations_are_told_by_their_beginning_and_end(tmp_path):
    data = write_hash_run(tmp_path / "run")
    page = write_page(tmp_path / "run", out=tmp_path / "report.html")
    cold, curves = sorted(page.tables)  # by their headers
    assert curves[0] == ["learner", "collisions, first", "collisions, end"]
    means = data["collisions"].values.mean(axis=1)
    for row, name, mean, end in zip(curves[1:], ("long", "short"), means, (40, 25), strict=True):
        assert row == [name, f"{mean[0]:.4g}", f"{mean[end - 10 : end].mean():.4g}"]
    assert cold[0] == ["key set", "cold"]
    assert [row[1] for row in cold[1:]] == [f"{value:.4g}" for value in data["cold"].values.mean(axis=0)]


def test_text_from_a_run_is_text_on_the_page(tmp_path):
    folder = tmp_path / "<b>run & more"
    folder.mkdir()
    pd.DataFrame({HOSTILE: [HOSTILE, "plain"], "number": [1, 2]}).to_csv(folder / "<i>.csv", index=False)
    notes = {"Title": HOSTILE, "Command": f"python -m experiments.x {HOSTILE}", "Software": HOSTILE}
    Figure().savefig(folder / "<i>.png", metadata=notes)
    (folder / "config.json").write_text(json.dumps({"config": {HOSTILE: HOSTILE}, "tasks": [1], "versions": {}}))
    page = write_page(folder, out=tmp_path / "report.html")
    assert page.tables == [[[HOSTILE, "number"], [HOSTILE, "1"], ["plain", "2"]]]
    assert page.values == {HOSTILE: HOSTILE, "software": HOSTILE}
    assert [image["alt"] for image in page.images] == [HOSTILE]
    assert f"python -m experiments.x {HOSTILE}" in page.text
    assert "script" not in page.tags
    assert page.schemes == {"data", "#run-1"}
    assert "not finished: 0 of 1 tasks done" in page.text


def test_cells_are_shown_as_they_are_or_with_four_digits(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1.0,0.123456\n1000000,nan\n1_000,1e-12\n-3,\n")
    (table,) = write_page(tmp_path, out=tmp_path / "report.html").tables
    assert table[1:] == [["1", "0.1235"], ["1000000", "–"], ["1_000", "1e-12"], ["-3", ""]]


def test_a_long_table_says_how_much_of_it_is_shown(tmp_path):
    pd.DataFrame({"a": range(MOST_ROWS + 5)}).to_csv(tmp_path / "x.csv", index=False)
    page = write_page(tmp_path, out=tmp_path / "report.html")
    assert len(page.tables[0]) == 1 + MOST_ROWS
    assert f"the first {MOST_ROWS} of {MOST_ROWS + 5} rows, all are in the file" in page.text


def test_numbers_in_json_and_in_folders_below_are_told_too(tmp_path):
    folder = tmp_path / "run"
    (folder / "layers").mkdir(parents=True)
    (folder / "layers" / "results.csv").write_text("layer,bits\n1,60\n")
    (folder / "tasks" / "one").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {"network": "vgg11"}, "tasks": []}))
    history = {"loss": [2.5, 1.25], "accuracy": [0.1, 0.5]}
    (folder / "network.json").write_text(json.dumps({"test_accuracy": 0.5, "epochs": history}))
    page = write_page(folder, out=tmp_path / "report.html")
    assert page.tables == [
        [["name", "value"], ["test_accuracy", "0.5"]],
        [["epochs", "loss", "accuracy"], ["1", "2.5", "0.1"], ["2", "1.25", "0.5"]],
        [["layer", "bits"], ["1", "60"]],
    ]
    assert "layers/results.csv" in page.text
    assert page.values == {"network": "vgg11"}
    assert "not finished" not in page.text


def test_variants_that_are_not_put_together_yet_are_no_surprise(tmp_path):
    for name in ("baseline", "l2=0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"config": {}, "tasks": []}))
    page = write_page(tmp_path, out=tmp_path / "report.html")
    assert "not finished: baseline, l2=0 begun" in page.text


def test_variants_show_what_they_share_once():
    one = {"dataset": "digits", "train": {"l2": 0.0, "epochs": 3}}
    other = {"dataset": "digits", "train": {"l2": 0.1, "epochs": 3}}
    shared = {"dataset": "digits", "train.epochs": "3"}
    assert configuration({"a": one, "b": other}) == shared | {"a: train.l2": "0.0", "b: train.l2": "0.1"}
    assert configuration(one) == shared | {"train.l2": "0.0"}


def test_a_damaged_file_is_named_and_the_rest_is_told(sweep_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(sweep_run, folder)
    for name in ("results.nc", "model_capacity.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
    (folder / "empty.csv").touch()
    page = write_page(folder, out=tmp_path / "report.html")
    for name in ("results.nc", "model_capacity.png", "empty.csv"):
        assert f"{name} cannot be read (" in page.text
    assert page.values["widths"] == "20 3 40"
    assert page.images == []


def test_folders_that_are_no_runs_are_named_and_left_out(sweep_run, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no run")
    page = write_page(tmp_path / "notes", sweep_run, tmp_path / "missing", out=tmp_path / "report.html")
    assert len(page.tables) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "notes is not the folder of a run: it has no picture, no table and no config.json" in told
    assert "missing is not a folder; give folders that experiments wrote" in told
    (tmp_path / "report.html").unlink()
    with pytest.raises(SystemExit) as stopped:
        report.main([str(tmp_path / "notes"), "--out", str(tmp_path / "report.html")])
    assert stopped.value.code == 1
    assert "no run to report" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_one_clear_error(sweep_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main([str(sweep_run), "--out", str(tmp_path)])
    assert stopped.value.code == 1
    assert "give another --out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_an_experiments_command_stands_in_its_picture_and_on_the_page(tmp_path):
    line = "python -m experiments.hash_python --num-keys 9 --num-bins 9 --draws 2 --out 'a run'"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, *shlex.split(line)[1:]]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert read_run(tmp_path / "a run").noted("Command") == [line]
    assert line in write_page(tmp_path / "a run", out=tmp_path / "report.html").text


# --- in a browser


def find_browser():
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell"):
        if found := shutil.which(name):
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright")).expanduser()
    return next(
        (str(path) for path in sorted(cache.glob("chromium*/chrome-*/*chrome*")) if os.access(path, os.X_OK)), None
    )


BROWSER = find_browser()


def browse(page, folder):
    """Open a file in the browser: its console's messages (also what the page's policy refused), and a screenshot."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
    # No name is resolved, so that the browser's own calls home stay here too.
    options += ["--disable-background-networking", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options += ["--enable-logging=stderr", "--window-size=900,1200", f"--screenshot={folder}.png", page.as_uri()]
    done = subprocess.run([BROWSER, *options], capture_output=True, timeout=120, check=True)
    with Image.open(f"{folder}.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return [line for line in done.stderr.decode(errors="replace").splitlines() if ":CONSOLE" in line], pixels


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here: apt-get install chromium, or playwright install chromium"
)
def test_a_real_browser_shows_the_page_without_errors_or_network(sweep_run, tmp_path):
    page = tmp_path / "report.html"
    write_page(sweep_run, out=page)
    console, pixels = browse(page, tmp_path / "good")
    assert console == []
    blue = np.array([0x00, 0x72, 0xB2])  # the lines of the embedded figure
    assert (np.abs(pixels - blue).max(axis=2) < 8).sum() > 50
    page.write_text(page.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"/>'))
    console, _ = browse(page, tmp_path / "bad")
    assert any("127.0.0.1" in line for line in console)
