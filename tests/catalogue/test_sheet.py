from __future__ import annotations

import re

from pipelines.catalogue.manifest import Row
from pipelines.catalogue.sheet import write_sheet

from .test_manifest import BAD, GOOD


def test_write_sheet_shows_failures_first_and_escapes_html(tmp_path):
    page = write_sheet([GOOD, BAD], tmp_path).read_text()
    assert "1 done, 1 failed." in page
    assert "<b>" not in page
    assert "It is &lt;small&gt;." in page
    assert re.findall(r'<tr class="(\w+)"', page) == ["failed", "done"]
    assert 'src="a/a-preview.png"' in page
    assert 'href="a/a.obj"' in page


def test_write_sheet_of_many_rows_says_how_many_it_shows(tmp_path):
    rows = [Row(str(i), "p.png", "done", "f") for i in range(2001)]
    page = write_sheet(rows, tmp_path).read_text()
    assert page.count('<tr class="done"') == 2000
    assert "The first 2,000 are shown" in page
