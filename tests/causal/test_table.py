"""Specifications side by side: the very text, digits of the results, and signs that LaTeX or HTML would read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect, table
from sustain.debias import build_card
from sustain.errors import EffectError, FewUnitsWarning

pytestmark = pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")


@pytest.fixture(scope="module")
def results():
    """A trial whose raw effect is exactly 0.5, and a card whose slope is exactly a half."""
    truth = np.repeat(np.linspace(-3, 3, 200), 2)
    noise = np.tile([0.1, -0.1], 200)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": {"id": "m_1", "sha256": "a" * 64}}
    card = build_card(0.5 * truth + noise, truth, methods=["linear"], n_boot=40, **about)
    assert card.slope == pytest.approx(0.5)
    treated = np.repeat([0, 1], 100)
    wave = np.tile([0.3, -0.3], 100)
    trial = pd.DataFrame(
        {"wealth_raw": 0.5 * treated + wave, "treated": treated, "x": np.tile([1, 1, 0, 0], 50)}
    ).assign(village=np.arange(200) // 5)
    arguments = {"calibration": card, "method": "linear"}
    first = estimate_effect(trial, "wealth_raw ~ treated", assumption="measurement", **arguments)
    clusters = {"CRV1": "village"}
    second = estimate_effect(
        trial, "wealth_raw ~ treated + x", assumption="bracket", vcov=clusters, **arguments
    )
    return first, second, estimate_effect(trial, "wealth_raw ~ treated")


LATEX = r"""\begin{tabular}{lcc}
\toprule
 & A \& B & 50\%\_x \\
\midrule
treated, corrected & 1.000$^{***}$ &  \\
 & (0.085) &  \\
 & {[0.831, 1.169]} &  \\
treated, raw & 0.500$^{***}$ & 0.500$^{***}$ \\
 & (0.043) & (0.043) \\
 & {[0.416, 0.584]} & {[0.416, 0.584]} \\
\midrule
Outcome & wealth\_raw & wealth\_raw \\
Units & 200 & 200 \\
Treated units & 100 & 100 \\
Estimator & least squares & least squares \\
Standard errors & HC1 & HC1 \\
Correction & linear & none \\
Assumption & measurement stability & none named \\
Calibration's share of variance & 0\% &  \\
"""


class TestText:
    def test_latex_to_the_letter(self, results):
        first, _, third = results
        written = table([first, third], names=["A & B", "50%_x"], format="latex")
        assert written.startswith(LATEX)
        assert written.endswith("\\end{tabular}\n")
        assert r"Card & wealth, m\_1 (" in written
        assert r"\bottomrule" in written
        assert r"{*} p $<$ 0.05, {*}{*} p $<$ 0.01, {*}{*}{*} p $<$ 0.001." in written

    def test_every_row_of_latex_has_as_many_cells(self, results):
        rows = [line for line in table(results, format="latex").split("\n") if " & " in line]
        assert {line.count(" & ") for line in rows} == {3}

    def test_markdown(self, results):
        lines = table(results, format="markdown").split("\n")
        assert {line.count("|") for line in lines if line.startswith("|")} == {5}
        assert r"1.000\*\*\*" in lines[2]
        assert r"\[0.831, 1.169\]" in lines[4]

    def test_html(self, results):
        first, *_ = results
        written = table(first, names=["<b>&"], format="html")
        assert '<th scope="col">&lt;b&gt;&amp;</th>' in written
        assert "<td>1.000***</td>" in written
        assert table(first)._repr_html_().startswith("<table>")

    def test_terminal_has_no_signs_of_markup(self, results):
        assert "\\" not in str(table(results))


class TestContent:
    def test_clusters_covariates_and_both_ends(self, results):
        frame = table(results, format="dataframe")
        assert frame.loc["Clusters"].tolist() == ["", "40 (village)", ""]
        assert frame.loc["Covariates"].tolist() == ["", "x", ""]
        assert frame.loc["Standard errors"].tolist() == ["HC1", "CRV1 by village", "HC1"]
        assert frame.loc["Assumption"].tolist()[1] == "both (bracket)"
        assert frame.loc["treated, corrected"].tolist() == ["1.000***", "1.000***", ""]

    def test_files_and_results_give_the_same(self, results, tmp_path):
        paths = []
        for place, result in enumerate(results):
            paths.append(tmp_path / f"{place}.json")
            paths[-1].write_text(json.dumps(result.to_dict()))
        assert str(table(paths)) == str(table(results))

    @pytest.mark.parametrize(("stars", "shown"), [(False, "1.000"), ([0.1], "1.000*"), (True, "1.000***")])
    def test_stars(self, results, stars, shown):
        assert table(results, stars=stars, format="dataframe").iloc[0, 0] == shown

    def test_what_is_refused(self, results):
        for arguments, message in (
            ({"names": ["one"]}, "names: got 1 for 3 results"),
            ({"format": "word"}, "format: got 'word'"),
            ({"stars": [5]}, "stars: got"),
        ):
            with pytest.raises(EffectError, match=message):
                table(results, **arguments)
        with pytest.raises(EffectError, match="none given"):
            table([])
        with pytest.raises(EffectError, match="not an effect"):
            table([{"estimate": 1.0}])


def test_numbers_of_a_bracket_belong_together(results):
    _, bracket, _ = results
    found = bracket.to_dict()
    assert found["estimate"] is None
    assert found["std_error"] is None
    ends = found["bracket"]
    assert ends["outcome stability"]["estimate"] == pytest.approx(0.5)
    assert ends["measurement stability"]["estimate"] == pytest.approx(1.0)
    assert found["conf_low"] == ends["outcome stability"]["conf_low"]
    assert found["conf_high"] == ends["measurement stability"]["conf_high"]
    assert "0.5 to 1 [" in repr(bracket)


def test_few_treated_units_are_said_where_the_effect_stands(results):
    rng = np.random.default_rng(0)
    trial = pd.DataFrame({"y": rng.normal(size=60), "treated": np.arange(60) < 3})
    with pytest.warns(FewUnitsWarning, match="Only 3 treated units"):
        found = estimate_effect(trial.astype(float), "y ~ treated")
    assert "(3 treated, 57 control) - FEW TREATED UNITS" in found.summary()
    assert found.notes[0].kind == "few_units"
    assert "Few units in an arm of column 2" in str(table([results[0], found]))


def test_rows_left_out_are_named(results):
    data = pd.DataFrame({"y": [1.0, 2, np.nan, 4, 5, 6], "treated": [0, 1, 0, 1, 0, 1]}, index=list("abcdef"))
    with pytest.warns(match=r"1 of 6 rows are left out for missing values \(y 1; rows c\)"):
        found = estimate_effect(data, "y ~ treated")
    assert any("rows c" in note for note in found.notes)
