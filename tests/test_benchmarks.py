"""The benchmark's own parts: a benchmark that counts wrongly misleads more than none."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import detector, rve_size, training, warm_start
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.detector import Counts, compare, count, overlap_power, run
from benchmarks.physical_loss import Run, measured, ratio, read_runs
from benchmarks.plain_training import Crops
from benchmarks.scenes import Condition, Scene, scenes, signal_to_noise, wide_band, windows, with_overlap
from benchmarks.step_profile import profile_step
from benchmarks.stress_field import read_frd
from benchmarks.training import Effort
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import MATERIALS
from microgan.exporters.formats.abaqus_mesh import write_inp_mesh
from microgan.exporters.structure import Structure
from microgan.gan.config import TrainConfig
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from tests.helpers import disc_planes

SHAPE = (64, 64)


@pytest.fixture(scope="module")
def simulated() -> list[Scene]:
    return scenes(Condition(radius_px=8.0), 1, seed=0)


def test_hits_and_misses_are_counted() -> None:
    # Whole; whole; cut, with its centre inside; cut, with its centre outside.
    truth = np.array([[20, 20, 6], [40, 40, 6], [2, 30, 6], [-1, 50, 6.0]])
    perfect = compare(truth, truth, SHAPE)
    assert perfect == Counts(inside=3, hit=3, found=3, true=3, cut=1, cut_hit=1, outside=1, outside_hit=1)
    found = np.array([[20, 21, 6.5], [20, 22, 6], [10, 60, 5], [2, 30, 6.0]])
    counts = compare(found, truth, SHAPE)
    assert (counts.inside, counts.hit, counts.found, counts.true) == (3, 2, 4, 2)
    assert (counts.cut_hit, counts.outside_hit) == (1, 0)
    measures = (perfect + counts).measures()
    assert measures["recall"] == pytest.approx(5 / 6)
    assert measures["precision"] == pytest.approx(5 / 7)
    assert measures["radius_bias_px"] == pytest.approx(0.5 / 5)
    assert measures["centre_error_px"] == pytest.approx(1 / 5)


def test_one_circle_is_one_hit_only() -> None:
    truth = np.array([[20, 20, 6], [20, 24, 6.0]])
    assert compare(np.array([[20, 22, 6.0]]), truth, SHAPE).hit == 1
    assert compare(np.zeros((0, 4)), truth, SHAPE).measures()["recall"] == 0


def test_scenes_are_as_asked_for(simulated: list[Scene]) -> None:
    assert len(simulated) == 4
    assert np.mean([signal_to_noise(scene) for scene in simulated]) == pytest.approx(4, abs=0.3)
    scene = simulated[0]
    row, col = np.indices(scene.image.shape)
    inside = np.any([np.hypot(row - y, col - x) < r for y, x, r in scene.truth], axis=0)
    assert inside.mean() == pytest.approx(0.5, abs=0.08)
    assert scene.image[inside].mean() > scene.image[~inside].mean() + 0.5
    (dark, *_) = scenes(Condition(polarity="dark", radius_px=8.0), 1, seed=0)
    assert np.corrcoef(dark.image.ravel(), scene.image.ravel())[0, 1] < -0.7
    assert np.ptp(np.concatenate([one.truth[:, 2] for one in scenes(wide_band(Condition()), 1, 0)])) > 8


def test_windows_keep_their_truth(simulated: list[Scene]) -> None:
    small = windows(simulated[:1])
    assert [one.image.shape for one in small] == [(64, 64)] * 4
    tiled = np.block([[one.image for one in small[i : i + 2]] for i in (0, 2)])
    np.testing.assert_array_equal(tiled, simulated[0].image)
    ring = CONTENDERS[0]
    assert count(lambda x: ring.find(x, (4.0, 9.0), "bright"), small).measures()["recall"] > 0.9


def test_power_is_that_of_the_truth(simulated: list[Scene]) -> None:
    """A detector that knows the planted overlap has full power, one that sees nothing has none."""
    clean = np.stack([one.image for one in windows(simulated)])
    planted = np.stack(list(with_overlap(windows(simulated), (0.2, 0.3), "bright", seed=0)))
    assert len(planted) > 10

    def knows(images: np.ndarray) -> list[np.ndarray]:
        pair = np.array([[20, 20, 6, 1], [20, 28, 6, 1.0]])
        return [pair if any(np.array_equal(one, x) for x in planted) else pair[:1] for one in images]

    assert overlap_power(knows, clean, planted, clean) == [1.0, 0.0]
    assert overlap_power(lambda images: [np.zeros((0, 4))] * len(images), clean, planted) == [0.0]


def test_every_contender_finds_most_discs(simulated: list[Scene]) -> None:
    for contender in CONTENDERS:
        settings = contender.settings()[0]
        counts = count(lambda x: contender.find(x, (5.0, 11.0), "bright", **settings), simulated[:2])  # noqa: B023
        assert counts.measures()["recall"] > 0.5, contender.name


def test_a_run_writes_table_and_picture(
    simulated: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def discs(images: np.ndarray, band: object, polarity: object) -> list[np.ndarray]:
        return [np.array([[30, 30, 6, 1.0]])] * len(images)

    monkeypatch.setattr(detector, "scenes", lambda *_: simulated[:1])
    monkeypatch.setattr(detector, "CONTENDERS", [Contender("blind", discs)])
    text = run(True, tmp_path / "results", tmp_path / "detector.png")
    assert "| blind |" in text
    assert (tmp_path / "results/detector.md").read_text().endswith(text)
    header, *rows = (tmp_path / "results/detector.csv").read_text().splitlines()
    assert {"recall", "overlap_power", "ms_one_by_one"} <= set(header.split(","))
    assert {row.split(",")[0] for row in rows} == {"grid", "dark", "wide band", "overlap", "time", "size"}
    assert (tmp_path / "detector.png").stat().st_size > 1000


TINY = TrainConfig(latent_channels=4, batch=4, threads=1, device="cpu")
TINY_EFFORT = Effort(rounds=2, warm_up=1, timed=2, base_channels=(4,), products=(64,))


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def jobs(planes: Planes) -> dict[str, training.Job]:
    folder = Path(planes.grey.filename).parent  # type: ignore[attr-defined]
    return {name: job for (name, _), job in training.jobs(folder, TINY_EFFORT, TINY, 64).items()}


def test_both_loops_are_timed_on_the_same_networks(jobs: dict[str, training.Job]) -> None:
    rows, peaks = training.run(jobs["dcgan"].planes, TINY_EFFORT, TINY, 64, training.measure)
    assert [(row.model, row.base_channels) for row in rows] == [("dcgan", 4), ("wgan_gp", 4)]
    for row in rows:
        assert len({one.parameters for one in row.microgan + row.plain}) == 1
        assert len(row.ratios) == TINY_EFFORT.rounds
        numbers = [*row.images_per_second, *row.ratios, row.rate, row.microgan_flops, row.plain_flops]
        numbers += [one.peak_bytes for one in row.microgan + row.plain]
        assert np.isfinite(numbers).all()
        assert min(numbers) > 0
    header, _, *lines = training.table(rows, peaks).splitlines()
    assert [line.count("|") for line in lines] == [header.count("|")] * 2
    assert "nan" not in "".join(lines)


def test_time_is_that_of_the_steps_after_the_warm_up(
    jobs: dict[str, training.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    durations = iter([7.0, 1.0, 3.0])  # the end of the first step, the only one of the warm-up, and two steps
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += next(durations)
        return now

    def contender(job: training.Job, on_step: Callable[[], None]) -> int:
        for _ in range(job.train.steps):
            on_step()
        return 1

    monkeypatch.setattr(training.time, "perf_counter", clock)
    monkeypatch.setitem(training.CONTENDERS, "microgan", contender)
    assert training.measure(jobs["dcgan"]).step_seconds == 2.0


def test_networks_of_other_sizes_are_not_compared(
    jobs: dict[str, training.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(job: training.Job) -> training.Measured:
        return training.Measured(step_seconds=1, peak_bytes=1, parameters=len(job.contender))

    with pytest.raises(RuntimeError, match="same size"):
        training.compare(jobs["dcgan"], "dcgan", 1, run, lambda: None)


def _operations(base: int, latent: int, batch: int) -> dict[str, list[int]]:
    """Forward operations of each layer: 2 x batch x pixels x inputs x outputs x kernel area."""
    generator = [(256, latent, 4, 9), (196, 4 * base, 4, 9), (196, 4 * base, 2, 16)]
    generator += [(side**2, 2 * base, 2, 9) for side in (24, 22, 20, 18)]
    generator += [(324, 2 * base, 1, 16), (1156, base, 1, 16)]
    critic = [(1024, 1, 1, 16), (256, base, 2, 16), (64, 2 * base, 4, 16)]
    layers = {
        "generator": [*(2 * batch * p * i * o * base * k for p, i, o, k in generator)],
        "critic": [*(2 * batch * p * i * o * base * k for p, i, o, k in critic)],
    }
    layers["generator"].append(2 * batch * 64 * 64 * base * 9)
    layers["critic"].append(2 * batch * 5 * 5 * 4 * base * 16)
    return layers


def test_operations_are_those_of_the_layers(jobs: dict[str, training.Job]) -> None:
    """A backward pass costs a forward pass for the weights, and one for the inputs but of the first layer."""
    layers = _operations(4, TINY.latent_channels, TINY.batch)
    generator, critic = sum(layers["generator"]), sum(layers["critic"])
    trained_generator = 3 * generator - layers["generator"][0]
    critic_step = 2 * (3 * critic - layers["critic"][0])
    ours = training.step_flops(jobs["dcgan"])
    assert ours == trained_generator + critic_step + 2 * critic  # the critic's weights need no gradient
    plain = training.step_flops(jobs["dcgan"].model_copy(update={"contender": "plain"}))
    assert plain == ours + critic  # but there they get one, and nobody uses it
    # Penalty: scores, their gradient, and the way back through the gradient alone; tutorials: through both
    steps = jobs["wgan_gp"].model.critic_steps
    for contender, passes in (("microgan", 4), ("plain", 6)):
        again = generator if contender == "plain" else 0  # a fake batch of its own for the generator's step
        expected = trained_generator + (steps - 1) * generator + again
        expected += steps * (critic_step + passes * critic) + 2 * critic
        job = jobs["wgan_gp"].model_copy(update={"contender": contender})
        assert training.step_flops(job) == pytest.approx(expected, rel=0.03)


def test_plain_crops_lie_in_the_training_regions(planes: Planes) -> None:
    crops = Crops(planes, 64, seed=0).batch(50)
    assert crops.shape == (50, 1, 64, 64)
    assert crops.dtype == np.float32
    ours = Windows(planes, "train", 64).draw(np.random.default_rng(0), 50).numpy()
    assert crops.mean() == pytest.approx(ours.mean(), abs=0.05)
    assert crops.std() == pytest.approx(ours.std(), abs=0.05)


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_profile_finds_all_parts_of_a_step(name: str, planes: Planes, jobs: dict[str, training.Job]) -> None:
    job = jobs[name]
    fractions, operators = profile_step(Windows(planes, "train", 64), job.train, job.model, job.warm_up)
    assert sum(fractions.values()) == pytest.approx(1)
    least = ["convolutions, forward", "convolutions, backward", "optimisers", "window gathering"]
    assert all(fractions[part] > 0 for part in least)
    assert min(fractions.values()) >= 0
    assert all(0 < fraction < 1 for fraction in operators.values())


def _judged(seed: int, physics: bool, rejected: float) -> Run:
    measures = dict.fromkeys(Run.model_fields, rejected)
    return Run.model_validate(measures | {"model": "dcgan", "seed": seed, "physics": physics, "steps": 3})


def test_the_ratio_of_pairs_is_geometric_and_its_interval_students() -> None:
    runs = [_judged(seed, False, 0.4) for seed in range(3)] + [_judged(seed, True, 0.1) for seed in range(3)]
    assert ratio(runs, "ring") == pytest.approx((0.25, 0.25, 0.25))
    pairs = [_judged(0, False, 0.4), _judged(0, True, 0.1), _judged(1, False, 0.1), _judged(1, True, 0.1)]
    middle, low, high = ratio([*pairs, _judged(2, True, 0.9)], "ring")  # the last one has no twin
    half = 12.7062 * np.log(2)  # t of one degree of freedom x standard error of the logarithms of 1/4 and 1
    assert (middle, np.log(high)) == pytest.approx((0.5, np.log(0.5) + half), rel=1e-4)
    assert low * high == pytest.approx(0.25)


def test_a_second_call_measures_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def judged(planes: object, name: str, seed: int, physics: bool, *_: object) -> Run:
        asked.append((seed, physics))
        return _judged(seed, physics, 0.2 if physics else 0.5)

    monkeypatch.setattr("benchmarks.physical_loss.trained_and_judged", judged)
    for seeds in (1, 2, 2):
        runs = measured(None, {"dcgan": None}, seeds, None, None, tmp_path / "runs.csv")
    assert asked == [(0, False), (0, True), (1, False), (1, True)]
    assert runs == read_runs(tmp_path / "runs.csv")


def test_a_start_is_worth_the_steps_it_saves() -> None:
    def course(start: Path | None, *scores: float) -> warm_start.Run:
        rest = (1.0, 1.0, 1.0)
        rows = [(100 * k, 0.5 * k, score, *rest) for k, score in enumerate(scores, 1)]
        return warm_start.Run("dcgan", start, [warm_start.Validation(*row) for row in rows])

    runs = [course(None, 0.1, 0.2, 0.3, 0.55), course(Path("carbon"), 0.55, 0.4, 0.75)]
    rows = {row.split(" | ")[1]: row for row in warm_start.table(runs).splitlines()[2:]}

    assert rows["0.50"] == "| dcgan | 0.50 | 400, 2.0 | 100, 0.5 | 4.0 |"
    assert rows["0.70"] == "| dcgan | 0.70 | not reached | 300, 1.5 | - |"
    assert "0.80" not in rows


@pytest.mark.skipif(shutil.which("ccx") is None, reason="needs ccx of CalculiX (Debian package calculix-ccx)")
def test_stresses_are_read_as_calculix_wrote_them(tmp_path: Path) -> None:
    pytest.importorskip("gmsh")
    epoxy = MATERIALS["epoxy"]
    materials = {"matrix": epoxy, "fibre": epoxy}
    phase, disc = np.zeros((1, 8, 10), np.uint8), Circles.from_table([[4, 5, 2.0]])
    structure = Structure("cell", phase, disc, voxel_size_um=1.0, periodic=True, materials=materials)
    write_inp_mesh(structure, tmp_path / "cell.inp", 0.8, "stiffness")
    subprocess.run(["ccx", "cell_stiffness"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    places, triangles, steps = read_frd(tmp_path / "cell_stiffness.frd")
    assert places.max(axis=0).tolist() == [10, 8]
    first, second, third = (places[triangles[:, corner]] for corner in range(3))
    (x, y), (u, v) = (second - first).T, (third - first).T
    assert (x * v - y * u).sum() / 2 == pytest.approx(80)
    # One material: the mean strain, 0.1 % on the longer border, everywhere
    for step, (column, strain) in enumerate(((0, 0.8e-3), (1, 1e-3), (2, 0.8e-3))):
        stress = 1e3 * strain * epoxy.stiffness_gpa[column]
        for component, expected in zip(("SXX", "SYY", "SXY"), stress, strict=True):
            np.testing.assert_allclose(steps[step][component], expected, rtol=1e-4, atol=1e-6)


def test_cells_are_cut_whole_and_counted_against_the_truth() -> None:
    material = np.arange(2 * 6 * 6).reshape(2, 6, 6)
    cells = rve_size.Cut.of(material, 3).phases
    assert cells.shape == (8, 3, 3) and np.array_equal(cells[1], material[0, :3, 3:])
    assert np.array_equal(cells[6], material[1, 3:, :3])
    noise = rve_size.noise(np.random.default_rng(0), 448)[None]
    rows = list(rve_size.fraction_rows("noise", noise, [rve_size.of_scan(noise[0])]))
    assert len(rows) == 1 + len(rve_size.CELLS_PX) and float(rows[0].split("|")[3].strip(" %")) > 90
