"""Names of countries, addresses as links, names of models: what people read instead of what files hold."""

import pytest

from sustain.report.countries import country_name, country_names
from sustain.report.findings import model_label
from sustain.report.links import linked


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("NA", "Namibia"),
        ("NAM", "Namibia"),
        ("MD", "Moldova"),
        ("XK", "Kosovo"),
        ("cote_d_ivoire", "Côte d’Ivoire"),
        ("burkina_faso", "Burkina Faso"),
        ("democratic_republic_of_congo", "Democratic Republic of Congo"),
        ("XA", "XA"),  # nobody's code
        ("QQQ", "QQQ"),
    ],
)
def test_countries_have_names(code, name):
    assert country_name(code) == name


def test_codes_of_the_health_surveys_are_not_those_of_iso():
    known = {
        "MD": "Madagascar",
        "NM": "Namibia",
        "NI": "Niger",
        "BU": "Burundi",
        "IA": "India",
        "KE": "Kenya",
    }
    assert {code: country_name(code, dhs=True) for code in known} == known
    assert country_names(["TZ", "KE", "KE"], dhs=True) == ("Kenya", "Tanzania")


def test_every_country_of_sustainbench_has_a_name():
    from sustain.data.sustainbench.dhs import COUNTRY_FOLDS

    codes = [code for fold in COUNTRY_FOLDS.values() for code in fold]
    names = [country_name(code, dhs=True) for code in codes]
    assert len(set(names)) == len(codes)
    assert all(len(name) > 3 for name in names)


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("doi:10.1093/qje/qjac038.", "https://doi.org/10.1093/qje/qjac038", "doi:10.1093/qje/qjac038"),
        (
            "(https://doi.org/10.1038/s41-020-1)",
            "https://doi.org/10.1038/s41-020-1",
            "https://doi.org/10.1038/s41-020-1",
        ),
        ("at https://a.org/b_(c), and", "https://a.org/b_(c)", "https://a.org/b_(c)"),
        ("10.1111/ectj.12107;", "https://doi.org/10.1111/ectj.12107", "10.1111/ectj.12107"),
    ],
)
def test_addresses_and_dois_are_links(text, address, shown):
    assert f'<a href="{address}">{shown}</a>' in linked(text)


def test_what_is_no_address_is_escaped_and_stays():
    assert linked("<b> 10.5 & 0.1/3") == "&lt;b&gt; 10.5 &amp; 0.1/3"
    assert (
        linked('https://a.org/"onmouseover=x')
        == '<a href="https://a.org/">https://a.org/</a>&#34;onmouseover=x'
    )


def test_models_are_named_in_words():
    assert model_label("knn_nl_mean_scalar") == "Nearest neighbours on night lights, their mean"
    assert (
        model_label("resnet_18_rgb_transfer")
        == "ResNet of 18 layers on visible bands, trained on night lights first"
    )
    assert model_label("my_own_thing") == "my own thing"
