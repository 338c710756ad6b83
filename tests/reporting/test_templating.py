"""Pages escape what they are given, refuse what they are not, and let nothing run but their script."""

import base64
import hashlib
import re

import jinja2
import pytest

from finetune.reporting.templating import _environment, render

PAGE = """\
{% extends "base.html" %}{% import "macros.html" as m %}
{% block title %}{{ name }}{% endblock %}
{% block main %}{% call m.table("counts", "sortable") %}<thead><tr>{{ m.sort_header("loss") }}</tr></thead>
{% endcall %}{{ m.code(name, "code") }}{% endblock %}"""


def page(name="a name"):
    return _environment().from_string(PAGE).render(name=name)


def test_data_is_text_wherever_it_stands():
    html = page("<script>alert(1)</script> \x1b[2J \u202e \udcff '\"")
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3  # tab, heading, code
    assert html.count("<script>") == 1
    assert r"\x1b[2J \u202e \udcff" in html
    html.encode()


def test_line_breaks_stay():
    assert "a: 1\nb: 2" in page("a: 1\nb: 2")


def test_the_policy_names_the_one_script_and_forbids_every_request():
    html = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)


def test_a_name_that_is_not_given_is_refused():
    with pytest.raises(jinja2.UndefinedError, match="name"):
        _environment().from_string(PAGE).render()


def test_an_unknown_template_is_refused():
    with pytest.raises((jinja2.TemplateNotFound, FileNotFoundError), match="nothing.html"):
        render("nothing.html")
