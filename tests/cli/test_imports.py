"""What MODULE:APP names is imported, or it is explained why not, with the user's own frames."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaserve.cli.exit_codes import EXIT_APP, StartError
from kaserve.cli.imports import find_applications, import_target, is_target

APP = "def app(environ, start_response): ...\ndef create_app(): return app\nnumber = 5\nclass Site:\n    app = app\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of modules, which are forgotten after the test."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def failure(target: str) -> str:
    with pytest.raises(StartError) as caught:
        import_target(target)
    assert caught.value.code == EXIT_APP
    return str(caught.value)


def test_a_target() -> None:
    assert all(map(is_target, ["a:b", "a.b:c", "a:b.c", "a:b()", "a:b.c()", "café:app"]))
    assert not any(map(is_target, ["a", "a:", ":b", "a:b(1)", "a/b:c", "a b:c", "a:b:c", ".a:b", "a:b "]))


def test_what_is_imported(directory: Path) -> None:
    (directory / "shop_a.py").write_text(APP)
    app = import_target("shop_a:app")
    assert import_target("shop_a:create_app()") is import_target("shop_a:Site.app") is app
    assert isinstance(import_target("shop_a:Site()"), sys.modules["shop_a"].Site)
    assert find_applications(sys.modules["shop_a"]) == ["app", "create_app()"]


class TestAMissingModule:
    """One line: there is no code of the user in which to look."""

    def test_with_a_slip(self, directory: Path) -> None:
        (directory / "shop_b.py").write_text(APP)
        message = (
            f"cannot import 'shpo_b:app': there is no module shpo_b in {directory}, nor among the installed packages"
        )
        assert failure("shpo_b:app") == f"{message}; did you mean shop_b:app?"

    def test_in_a_package(self, directory: Path) -> None:
        (directory / "pack_c").mkdir()
        (directory / "pack_c" / "__init__.py").touch()
        (directory / "pack_c" / "views.py").touch()
        assert failure("pack_c.vievs:app").endswith("; did you mean pack_c.views:app?")

    def test_in_another_directory(self, directory: Path) -> None:
        (directory / "deep" / "src").mkdir(parents=True)
        (directory / "deep" / "src" / "shop_d.py").touch()
        assert failure("shop_d:app").endswith(
            "; there is one in deep/src: go there first (cd deep/src), or set PYTHONPATH=deep/src"
        )

    def test_without_any(self, directory: Path) -> None:
        assert f"; {directory} contains no module: " in failure("shop_e:app")

    def test_among_others(self, directory: Path) -> None:
        for name in "abcdefg":
            (directory / f"m{name}.py").touch()
        assert failure("unlike:app").endswith(f"; modules in {directory}: ma, mb, mc, md, me, ...")

    def test_with_its_suffix(self, directory: Path) -> None:
        (directory / "shop_f.py").write_text(APP)
        assert failure("shop_f.py:app") == (
            "cannot import 'shop_f.py:app': write the name of the module without .py: shop_f:app"
        )


class TestAMissingAttribute:
    def test_with_a_slip(self, directory: Path) -> None:
        (directory / "shop_g.py").write_text(APP)
        assert failure("shop_g:ap") == "cannot import 'shop_g:ap': shop_g has no ap; did you mean shop_g:app?"
        assert failure("shop_g:Site.apq").endswith("shop_g:Site has no apq; did you mean shop_g:Site.app?")

    def test_what_there_is(self, directory: Path) -> None:
        (directory / "shop_h.py").write_text(APP)
        assert failure("shop_h:unlike").endswith("; it has shop_h:app, shop_h:create_app()")

    def test_nothing_there(self, directory: Path) -> None:
        (directory / "shop_i.py").touch()
        assert failure("shop_i:app") == "cannot import 'shop_i:app': shop_i has no app, nor a name like that"

    def test_a_module_of_python_of_the_same_name(self, directory: Path) -> None:
        """`site:app` was in the documentation, and could never work."""
        (directory / "site.py").write_text(APP)
        assert failure("site:app").endswith(
            "; site is a module of Python itself, which hides site.py here: give yours another name"
        )

    def test_a_submodule(self, directory: Path) -> None:
        (directory / "pack_j").mkdir()
        (directory / "pack_j" / "__init__.py").touch()
        (directory / "pack_j" / "web.py").write_text(APP)
        assert failure("pack_j:web").endswith("has no web, but there is a module pack_j.web; write pack_j.web:APP")
        assert failure("pack_j:web.app").endswith("; write pack_j.web:app")

    def test_a_call_of_what_cannot_be_called(self, directory: Path) -> None:
        (directory / "shop_k.py").write_text(APP)
        assert failure("shop_k:number()") == (
            "shop_k:number is of type int and cannot be called; write it without (): shop_k:number"
        )

    def test_a_factory_that_needs_arguments(self, directory: Path) -> None:
        (directory / "shop_l.py").write_text(APP)
        assert failure("shop_l:app()").startswith("shop_l:app cannot be called without arguments: app() missing 2")


class TestExceptionsOfTheApplication:
    """Case 37: the frames of the user's own code, with file and line, and no others."""

    def frames(self, text: str) -> list[str]:
        return re.findall(r'^  File "(.*)"', text, re.MULTILINE)

    def test_in_a_module_that_it_imports(self, directory: Path) -> None:
        (directory / "shop_m.py").write_text("import shop_m_db\n")
        (directory / "shop_m_db.py").write_text("import os\nURL = os.environ['NO_SUCH_VARIABLE']\n")
        text = failure("shop_m:app")
        assert text.splitlines() == [
            "cannot import 'shop_m:app':",
            '  File "shop_m.py", line 1, in <module>',
            "    import shop_m_db",
            '  File "shop_m_db.py", line 2, in <module>',
            "    URL = os.environ['NO_SUCH_VARIABLE']",
            "KeyError: 'NO_SUCH_VARIABLE'",
        ]

    def test_within_a_library(self, directory: Path) -> None:
        (directory / "shop_n.py").write_text("import json\njson.loads('x')\n")
        text = failure("shop_n:app")
        assert self.frames(text) == ["shop_n.py"]
        assert "JSONDecodeError" in text

    def test_a_module_that_it_needs_is_missing(self, directory: Path) -> None:
        (directory / "shop_o.py").write_text("import no_such_module_at_all\n")
        text = failure("shop_o:app")
        assert self.frames(text) == ["shop_o.py"]
        assert text.endswith("\nModuleNotFoundError: No module named 'no_such_module_at_all'")

    def test_a_syntax_error(self, directory: Path) -> None:
        (directory / "shop_p.py").write_text("def (")
        text = failure("shop_p:app")
        assert self.frames(text) == ["shop_p.py"]
        assert "SyntaxError: invalid syntax" in text

    def test_a_factory_that_fails(self, directory: Path) -> None:
        (directory / "shop_q.py").write_text("def make():\n    1 / 0\n")
        text = failure("shop_q:make()")
        assert text.startswith("shop_q:make() failed:\n")
        assert self.frames(text) == ["shop_q.py"]

    def test_a_cause(self, directory: Path) -> None:
        source = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('no') from error\n"
        (directory / "shop_r.py").write_text(source)
        text = failure("shop_r:app")
        assert self.frames(text) == ["shop_r.py", "shop_r.py"]
        assert "was the direct cause" in text
        assert "Traceback" not in text

    def test_an_exit(self, directory: Path) -> None:
        (directory / "shop_s.py").write_text("raise SystemExit(7)\n")
        assert failure("shop_s:app").endswith("\nSystemExit: 7")

    def test_a_getattr_of_a_module(self, directory: Path) -> None:
        (directory / "shop_t.py").write_text("def __getattr__(name):\n    raise AttributeError('not today')\n")
        text = failure("shop_t:app")
        assert self.frames(text) == ["shop_t.py"]
        assert text.endswith("AttributeError: not today")
