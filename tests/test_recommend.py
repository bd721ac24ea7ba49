"""The recommender: its measures against scikit-learn and by hand, what each recipe may move, and MovieLens' files."""

import dataclasses
import zipfile

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from course_utils.full_size.movielens import load_movielens
from course_utils.recommend import metrics
from course_utils.recommend.networks import CandidateLoader, MatrixFactorisation, TwoTower, bpr_loss, score_all
from course_utils.recommend.population import OLD_UNTIL, RECENT_UNTIL, Clicks, simulate
from course_utils.recommend.recipes import ADAPT, Periods, adapt, click, feedback_loop, pretrain, report


@pytest.fixture(scope="module")
def small():
    """A small population, its periods, and a network after one epoch."""
    population = simulate(3, users=120, items=80)
    periods = Periods(population)
    return population, periods, pretrain(population, periods, seed=0, epochs=1)


def copy_of(model: TwoTower, population) -> TwoTower:
    twin = TwoTower(population.num_users, population.num_items, population.features)
    twin.load_state_dict(model.state_dict())
    return twin


# --- measures --------------------------------------------------------------------------------------------------------


def test_ndcg_is_scikit_learns_and_recall_is_counted_by_hand():
    rng = np.random.default_rng(0)
    scores, relevant = rng.random((40, 30)), rng.random((40, 30)) < 0.2
    relevant[0] = False
    lists = metrics.top_k(scores, 7)
    ndcg, recall = metrics.ndcg_at_k(lists, relevant), metrics.recall_at_k(lists, relevant)
    assert np.isnan(ndcg[0]) and np.isnan(recall[0])
    for user in range(1, 40):
        wanted = ndcg_score(relevant[user : user + 1], scores[user : user + 1], k=7, ignore_ties=True)
        assert ndcg[user] == pytest.approx(wanted)
        assert recall[user] == pytest.approx(relevant[user, lists[user]].sum() / relevant[user].sum())


def test_the_other_measures_by_hand():
    lists = np.array([[0, 1], [0, 2]])
    assert metrics.coverage(lists, 6) == 0.5
    features = np.array([[1.0, 0], [0, 2.0], [3.0, 0], [0, 0], [0, 0], [0, 0]])
    assert metrics.diversity(lists, features) == pytest.approx([1, 0])
    assert metrics.novelty(lists, np.array([4, 2, 1, 0, 0, 0]), num_users=8) == pytest.approx((1 + 2 + 1 + 3) / 4)
    assert metrics.gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert metrics.gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert metrics.gini(np.array([1, 3])) == pytest.approx(1 / 4)


def test_mmr_changes_nothing_at_0_and_takes_what_differs_at_1():
    rng = np.random.default_rng(1)
    scores, features = rng.random((5, 60)), rng.normal(size=(60, 4))
    assert (metrics.mmr(scores, features, 10, 0.0) == metrics.top_k(scores, 10)).all()
    varied = metrics.diversity(metrics.mmr(scores, features, 10, 0.7), features).mean()
    assert varied > metrics.diversity(metrics.top_k(scores, 10), features).mean() + 0.05
    twins = np.array([[1.0, 0], [1.0, 0], [0, 1.0]])
    assert metrics.mmr(np.array([[3.0, 2.9, 1.0]]), twins, 2, 0.6, pool=3).tolist() == [[0, 2]]


def test_excluded_items_stay_out_and_impossible_lists_are_refused():
    scores, exclude = np.ones((2, 5)), np.zeros((2, 5), dtype=bool)
    exclude[1, :3] = True
    assert metrics.top_k(scores, 2, exclude)[1].tolist() == [3, 4]
    with pytest.raises(ValueError, match="from 1 to 2.*it is 3"):
        metrics.top_k(scores, 3, exclude)
    with pytest.raises(ValueError, match="from 1 to 5"):
        metrics.top_k(scores, 6)
    with pytest.raises(ValueError, match="Unknown item"):
        metrics.recall_at_k(np.array([[9]]), np.zeros((1, 5), dtype=bool))
    with pytest.raises(ValueError, match="trade"):
        metrics.mmr(scores, np.ones((5, 2)), 2, 1.5, pool=3)
    with pytest.raises(ValueError, match="no pairs"):
        metrics.diversity(np.array([[1]]), np.ones((5, 2)))
    with pytest.raises(ValueError, match="Nothing was counted"):
        metrics.gini(np.zeros(3))


def test_knn_recommends_what_was_clicked_together():
    known = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]], dtype=bool)
    assert metrics.top_k(metrics.knn_scores(known), 1, known)[2].tolist() == [1]
    assert metrics.popular_scores(known)[3].tolist() == [3, 2, 1, 1]


# --- the population --------------------------------------------------------------------------------------------------


def test_nobody_clicks_before_joining_nothing_before_it_is_out_and_nothing_twice(small):
    population, *_ = small
    users, items, days = population.clicks
    assert (np.diff(days) >= 0).all()
    assert (days >= population.joined[users]).all() and (days >= population.released[items]).all()
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == len(users)
    again = simulate(3, users=120, items=80)
    assert all((one == other).all() for one, other in zip(again.clicks, population.clicks, strict=True))


def test_clicks_follow_the_rule_of_a_page():
    population = simulate(1, users=40, items=40)
    population.preference[:] = 0.5
    lists = np.tile(np.arange(10), (4000, 1))
    population.preference = np.full((4000, 40), 0.5)
    clicks = click(lists, population, 101, np.random.default_rng(0))
    shares = np.bincount(clicks.items, minlength=10) / 4000
    assert shares == pytest.approx(0.5 / np.log2(np.arange(2, 12)), abs=0.03)


def test_periods_keep_the_future_out(small):
    population, periods, _ = small
    assert periods.old.days.max() < OLD_UNTIL <= periods.recent.days.min()
    assert periods.recent.days.max() < RECENT_UNTIL <= periods.test.days.min()
    assert not (periods.relevant & periods.known).any()
    users, _, days = population.clicks
    for user in population.new_users:
        mine, seen = days[users == user], periods.recent.days[periods.recent.users == user]
        assert seen.tolist() == [day for day in mine[:3] if day < RECENT_UNTIL]
        assert periods.test.days[periods.test.users == user].tolist() == mine[mine >= RECENT_UNTIL].tolist()
        assert not periods.known_before[user].any()
    known_clicks = periods.known[population.new_users].sum(axis=1)
    assert known_clicks.min() == 0 and known_clicks.max() == 3  # somebody has no history, and somebody has all three
    old_users = np.flatnonzero(population.joined < OLD_UNTIL)
    assert np.isin(users, old_users).sum() == sum(
        np.isin(part.users, old_users).sum() for part in (periods.old, periods.recent, periods.test)
    )


def test_what_comes_after_the_adaptation_is_not_in_its_catalogue(small):
    population, *_ = small
    late = dataclasses.replace(population, released=population.released.copy())
    late.released[-1] = RECENT_UNTIL + 1
    assert Periods(late).catalogue.tolist() == list(range(population.num_items - 1))
    assert len(Periods(late).old_catalogue) == (population.released < OLD_UNTIL).sum()


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_batch_has_the_clicked_item_first_and_no_known_one_behind_it(small):
    population, periods, _ = small
    loader = CandidateLoader(periods.old, periods.known_before, periods.old_catalogue, batch_size=64)
    batches = list(loader)
    assert len(batches) == len(loader) and sum(len(targets) for _, targets in batches) == len(periods.old.users)
    (users, candidates), targets = batches[0]
    assert candidates.shape == (64, 21) and not targets.any()
    assert periods.known_before[users, candidates[:, 0]].all()
    others = candidates[:, 1:]
    assert np.isin(others, periods.old_catalogue).all()
    assert periods.known_before[users[:, None], others].mean() < 0.01


@pytest.mark.parametrize("network", ["matrix factorisation", "two towers"])
def test_forward_gives_the_scores_of_score_all(network, small):
    population, periods, model = small
    if network == "matrix factorisation":
        model = MatrixFactorisation(population.num_users, population.num_items)
    users, items = torch.tensor([0, 5]), torch.tensor([[1, 2, 3], [4, 5, 6]])
    with torch.no_grad():
        scores = model.eval()(users, items)
    part = next(model.children()).train()
    assert scores.numpy() == pytest.approx(score_all(model)[users[:, None], items], abs=1e-5)
    assert part.training and not model.training, "each module has its own mode again"
    part.eval()


def test_bpr_by_hand_and_bad_input_in_words(small):
    population, periods, model = small
    scores = torch.tensor([[2.0, 0.0, 1.0]])
    wanted = -(np.log(1 / (1 + np.exp(-2.0))) + np.log(1 / (1 + np.exp(-1.0)))) / 2
    assert bpr_loss(scores, torch.zeros(1)).item() == pytest.approx(wanted)
    with pytest.raises(ValueError, match="BPR compares"):
        bpr_loss(torch.zeros(3, 1), torch.zeros(3))
    unknown = Clicks(np.array([0]), np.array([80]), np.array([0.0]))
    with pytest.raises(ValueError, match="Unknown item 80: there are 80"):
        CandidateLoader(unknown, periods.known, np.arange(80))
    with pytest.raises(ValueError, match="no clicks"):
        CandidateLoader(periods.old.between(500, 600), periods.known, np.arange(80))
    with pytest.raises(ValueError, match="each item needs its own"):
        TwoTower(5, 6, population.features)
    with pytest.raises(ValueError, match="clicks, got"):
        model.set_history(periods.known[:3])


def test_users_without_history_get_one_list_all_the_same(small):
    population, periods, model = small
    model = copy_of(model, population)
    adapt("frozen towers", model, population, periods, seed=0)
    silent = population.new_users[~periods.known[population.new_users].any(axis=1)]
    scores = score_all(model)[silent]
    assert len(silent) > 1 and np.isfinite(scores).all() and np.allclose(scores, scores[0])
    adapt("new vectors", model, population, periods, seed=0, epochs=1)
    assert not model.users.weight[silent].any()  # no click, no gradient
    assert np.isfinite(score_all(model.set_history(np.zeros_like(periods.known)))).all()


# --- recipes ---------------------------------------------------------------------------------------------------------


def moved(model: TwoTower, before: dict) -> set[str]:
    buffers = {name for name, _ in model.named_buffers()}
    return {name for name, value in model.state_dict().items() if name not in buffers and (value != before[name]).any()}


@pytest.mark.parametrize("recipe", ADAPT)
def test_a_recipe_moves_what_it_says(recipe, small):
    population, periods, model = small
    model = copy_of(model, population)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapt(recipe, model, population, periods, seed=0, epochs=2)
    if recipe == "frozen towers":
        assert not moved(model, before)
    elif recipe == "new vectors":
        assert moved(model, before) == {"users.weight", "items.weight", "bias.weight"}
        old_users = population.joined < OLD_UNTIL
        assert torch.equal(model.users.weight[old_users], before["users.weight"][old_users])
        assert not torch.equal(model.users.weight[~old_users], before["users.weight"][~old_users])
        old_items = population.released < OLD_UNTIL
        for table in ("items.weight", "bias.weight"):
            assert torch.equal(model.state_dict()[table][old_items], before[table][old_items])
    else:
        assert len(moved(model, before)) == len(before) - 2  # all but the two buffers
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="no recipe 'half'"):
        adapt("half", model, population, periods, seed=0)


def test_the_report_refuses_a_group_without_a_test(small):
    population, periods, _ = small
    lists = metrics.top_k(population.preference, 10, periods.known)
    nobody = np.flatnonzero(~periods.relevant.any(axis=1))[:1]
    empty = nobody if len(nobody) else np.array([], dtype=int)
    with pytest.raises(ValueError, match="nothing to compare"):
        report(lists, population, periods, empty)
    assert (
        report(lists, population, periods)["true"]
        > report(metrics.top_k(metrics.random_scores(periods.known), 10, periods.known), population, periods)["true"]
    )


def test_the_loop_narrows_what_is_shown_and_without_feedback_nothing_narrows():
    population = simulate(2, users=150, items=100)
    rows, control = (feedback_loop(population, seed=0, rounds=4, explore=explore) for explore in (0.0, 1.0))
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0] == control[0]  # both learn from the same page
    assert rows[-1]["gini"] > rows[0]["gini"] + 0.1 and rows[-1]["coverage"] < rows[0]["coverage"] - 0.1
    assert abs(control[-1]["gini"] - control[0]["gini"]) < 0.1
    with pytest.raises(ValueError, match="explore"):
        feedback_loop(simulate(2, users=20, items=30), seed=0, explore=2)


# --- MovieLens -------------------------------------------------------------------------------------------------------

RATED = [
    (7, 10, 5, 300),
    (9, 30, 4, 100),
    (7, 30, 2, 200),
    (9, 10, 5, 400),
    (7, 20, 4, 50),
]  # user, film, stars, second
TITLES = {10: "Léon (1994)", 20: "A, B & C (1990)", 30: "Heat (1995)"}


def write_edition(folder, edition):
    """Three films and five ratings in an edition's own form."""
    folder = folder / edition
    folder.mkdir()
    if edition == "ml-100k":
        flags = {i: "|".join("1" if place == i // 10 else "0" for place in range(19)) for i in TITLES}
        films = "".join(f"{i}|{title}|01-Jan-1995||http://x|{flags[i]}\n" for i, title in TITLES.items())
        (folder / "u.item").write_bytes(films.encode("latin-1"))
        (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATED), encoding="latin-1")
    elif edition == "ml-1m":
        films = "".join(f"{i}::{title}::Drama|Genre{i}\n" for i, title in TITLES.items())
        (folder / "movies.dat").write_bytes(films.encode("latin-1"))
        (folder / "ratings.dat").write_text(
            "".join("::".join(map(str, row)) + "\n" for row in RATED), encoding="latin-1"
        )
    else:
        films = "movieId,title,genres\n" + "".join(f'{i},"{title}",Drama|Genre{i}\n' for i, title in TITLES.items())
        (folder / "movies.csv").write_bytes(films.encode("utf-8"))
        rows = "userId,movieId,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in RATED)
        (folder / "ratings.csv").write_text(rows, encoding="utf-8")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("edition", ["ml-100k", "ml-1m", "ml-latest-small"])
def test_movielens_is_read_in_each_form(edition, packed, tmp_path):
    write_edition(tmp_path, edition)
    if packed:
        with zipfile.ZipFile(tmp_path / f"{edition}.zip", "w") as archive:
            for path in (tmp_path / edition).iterdir():
                archive.write(path, f"{edition}/{path.name}")
                path.unlink()
    data = load_movielens(tmp_path, edition)
    assert data.clicks.users.tolist() == [0, 1, 0, 1] and data.clicks.items.tolist() == [1, 2, 0, 0]
    assert data.clicks.days.tolist() == [0, 25, 50, 75]
    assert data.item_names == list(TITLES.values()) and len(data.features) == 3
    assert (data.features.sum(axis=1) == (1 if edition == "ml-100k" else 2)).all()
    assert data.joined.tolist() == [0, 0]


def test_movielens_goes_through_the_same_code_without_a_truth(tmp_path):
    people = simulate(1, users=60, items=40)
    (tmp_path / "ml-100k").mkdir()
    flags = ["|".join(f"{flag:.0f}" for flag in (*row[:10], *[0] * 9)) for row in people.features]
    films = "".join(f"{i}|film {i}|||x|{flags[i]}\n" for i in range(40))
    (tmp_path / "ml-100k" / "u.item").write_text(films, encoding="latin-1")
    rows = zip(*people.clicks, strict=True)
    rated = "".join(f"{user}\t{item}\t5\t{day * 86400:.0f}\n" for user, item, day in rows)
    (tmp_path / "ml-100k" / "u.data").write_text(rated, encoding="latin-1")
    data = load_movielens(tmp_path)
    periods = Periods(data)
    model = pretrain(data, periods, seed=0, epochs=1)
    adapt("full", model, data, periods, seed=0, epochs=1)
    row = report(metrics.top_k(score_all(model), 5, periods.known), data, periods)
    assert "true" not in row and 0 <= row["recall"] <= 1 and len(data.new_users)


def test_movielens_missing_or_spoilt_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare --only movielens"):
        load_movielens(tmp_path)
    with pytest.raises(ValueError, match="no edition 'ml-2'"):
        load_movielens(tmp_path, "ml-2")
    write_edition(tmp_path, "ml-100k")
    with pytest.raises(ValueError, match="lower `liked`"):
        load_movielens(tmp_path, liked=6)
    (tmp_path / "ml-100k" / "u.data").write_text("not a table\n", encoding="latin-1")
    with pytest.raises(ValueError, match="not of its form"):
        load_movielens(tmp_path)
