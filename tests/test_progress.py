"""How far a long piece of work has got."""

from cornerjax import progress


def test_everything_is_passed_on(capsys, monkeypatch):
    assert list(progress.progress(iter("abc"), total=3, what="reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "QUIET_S", -1)
    list(progress.progress("abc", total=3, what="reading"))
    assert capsys.readouterr().err == "reading: 1/3\nreading: 2/3\nreading: 3/3\n"


def test_names_stay_text(capsys, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", -1)
    list(progress.progress("a", total=None, what="\x1b[2Jclip.mp4"))
    assert "\x1b" not in capsys.readouterr().err
