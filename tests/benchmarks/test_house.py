"""Who names alpha: identifiers of code count, words do not."""

from benchmarks import house


def test_identifiers_are_found_wherever_code_gives_or_uses_them(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(
        '"""alpha in words"""\n'
        "# lam in a comment\n"
        "from one import two as three\n"
        "def four(five, *, six=None):\n"
        "    print(f'{five.seven}', eight='lam')\n"
    )
    assert house.identifiers(path) >= {"three", "four", "five", "six", "seven", "eight", "print"}
    assert not house.identifiers(path) & {"alpha", "lam"}


def test_the_method_its_prior_and_its_report_may_name_alpha(tmp_path, monkeypatch):
    for name in ("dampening.py", "fisher/damage.py", "report/spectrum_page.py", "study/run.py", "report/page.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("alpha = 1\n" if name != "report/page.py" else "alphabet = 1\n")
    monkeypatch.setattr(house, "PACKAGE", tmp_path)
    assert house.naming_alpha() == ["study/run.py"]
