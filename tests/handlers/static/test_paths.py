"""Paths: what a URL may reach, and the many ways in which it may reach nothing else."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaserve.handlers.static.paths import Links, MalformedPath, Opened, Tree, decode_path, encode_name, is_hidden
from tests.tools.ids import readable


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    """Every descriptor that a test opens is closed at its end."""
    before = descriptors()
    yield
    assert descriptors() <= before


# Decoding


@pytest.mark.parametrize(
    ("raw", "names", "is_directory"),
    [
        ("/", (), True),
        ("/a", (b"a",), False),
        ("/a/", (b"a",), True),
        ("/a/b.html", (b"a", b"b.html"), False),
        ("/a%20b", (b"a b",), False),
        ("/%61", (b"a",), False),
        ("/%C3%A9%ff", (b"\xc3\xa9\xff",), False),
        ("/a+b", (b"a+b",), False),  # plus means a space in queries only
        ("/%2561", (b"%61",), False),  # once, not twice
        ("/%252e%252e/a", (b"%2e%2e", b"a"), False),
        ("/a;b=c", (b"a;b=c",), False),
        ("/a:b@c!$&'()*,=~", (b"a:b@c!$&'()*,=~",), False),
        ('/|{}^`<>"', (b'|{}^`<>"',), False),  # visible, if not in RFC 3986
        ("/a%0Ab", (b"a\nb",), False),
        ("/a%5cb", (b"a\\b",), False),  # a name like any other here, while a bare backslash is none
        ("/..%5C..%5Ca", (b"..\\..\\a",), False),
        # Dot segments, RFC 3986 §5.2.4 and, for the encoded ones, §6.2.2.
        ("/.", (), True),
        ("/./a", (b"a",), False),
        ("/a/.", (b"a",), True),
        ("/a/..", (), True),
        ("/a/../", (), True),
        ("/a/../b", (b"b",), False),
        ("/a/b/../../c", (b"c",), False),
        ("/a/%2e%2E/b", (b"b",), False),
        ("/a/.%2e/b", (b"b",), False),
        ("/a/%2e/b", (b"a", b"b"), False),
        # Not dot segments.
        ("/...", (b"...",), False),
        ("/..a", (b"..a",), False),
        ("/.a", (b".a",), False),
        ("/..;/a", (b"..;", b"a"), False),
        ("/%20..", (b" ..",), False),
        ("/..%20", (b".. ",), False),
        ("/%c0%ae%c0%ae/a", (b"\xc0\xae\xc0\xae", b"a"), False),  # overlong UTF-8 is no dot
        ("/%ef%bc%8e%ef%bc%8e", ("\uff0e\uff0e".encode(),), False),  # nor is the full-width one
        ("/%u002e%u002e", None, False),
        # Empty segments are nothing.
        ("//", (), True),
        ("//a", (b"a",), False),
        ("/a//b", (b"a", b"b"), False),
        ("/a//", (b"a",), True),
        ("//a//../b", (b"b",), False),
    ],
    ids=readable,
)
def test_decoding(raw: str, names: tuple[bytes, ...] | None, is_directory: bool) -> None:
    if names is None:
        with pytest.raises(MalformedPath):
            decode_path(raw)
    else:
        assert decode_path(raw) == (names, is_directory)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "*",
        "a/b",
        "../a",
        "/%",
        "/a%",
        "/%4",
        "/%4/a",
        "/%zz",
        "/%+1",
        "/%-1",
        "/% 1",
        "/%%41",
        "/é",
        "/\udc80",
    ],
)
def test_what_is_not_a_path_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedPath):
        decode_path(raw)


@pytest.mark.parametrize(
    "raw",
    [
        # Above the root.
        "/..",
        "/../",
        "/../a",
        "/a/../..",
        "/a/../../site/a",
        "//../a",
        "/./../a",
        "/%2e%2e/a",
        "/%2E./a",
        "/a/%2e%2e/%2e%2e/a",
        # Separators in names.
        "/a%2fb",
        "/a%2Fb",
        "/%2fetc/passwd",
        "/..%2fa",
        "/a/..%2f..%2f",
        "/%2e%2e%2fa",
        "/a\\b",
        "/..\\a",
        "/\\evil.example",
        "/a%5cb\\c",
        # NUL.
        "/%00",
        "/a%00",
        "/a%00.html",
        "/..%00/a",
    ],
)
def test_what_no_file_can_have_leads_nowhere(raw: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        decode_path(raw)
    assert caught.value.errno == errno.ENOENT


@given(st.text() | st.text(alphabet="/.%2eEfF5cC0\\a").map("/".__add__))
@example("/" + "a/../" * 500)
def test_names_are_names_whatever_is_asked_for(raw: str) -> None:
    try:
        names, _ = decode_path(raw)
    except (MalformedPath, FileNotFoundError):
        return
    for name in names:
        assert name not in (b"", b".", b"..")
        assert not {b"/", b"\0"} & {bytes((byte,)) for byte in name}


def test_long_paths_are_decoded_alike() -> None:
    assert decode_path("/" + "a" * 5000 + "/%62") == ((b"a" * 5000, b"b"), False)


@given(st.lists(st.binary(min_size=1).filter(lambda name: name not in (b".", b".."))))
def test_encoded_names_are_decoded_to_themselves(names: list[bytes]) -> None:
    names = [name for name in names if not {0, 47} & set(name)]
    raw = "/" + "".join(encode_name(name) + "/" for name in names)
    assert raw.isascii()
    assert decode_path(raw) == (tuple(names), True)


# Opening


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The files a, d/b and d/e/c, each holding its own path. Beside the site are outside/secret and site-old/secret."""
    for path in ("outside/secret", "site-old/secret"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("secret")
    (tmp_path / "site/d/e").mkdir(parents=True)
    for path in ("a", "d/b", "d/e/c"):
        (tmp_path / "site" / path).write_text(path)
    return tmp_path / "site"


@pytest.fixture
def tree(site: Path) -> Iterator[Tree]:
    tree = Tree(site)
    yield tree
    tree.close()


def read(tree: Tree, path: str) -> str:
    """What is in the file at `path`, or "directory"."""
    opened = tree.open(names(path))
    try:
        assert os.path.samestat(opened.status, os.fstat(opened.fd))
        return "directory" if opened.is_directory else os.read(opened.fd, 100).decode()
    finally:
        os.close(opened.fd)


def names(path: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(name) for name in path.split("/") if name)


def failure(tree: Tree, path: str) -> str:
    """The name of the error that keeps `path` from being opened."""
    try:
        found = read(tree, path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    pytest.fail(f"found {found!r}")


@pytest.mark.parametrize("path", ["a", "d/b", "d/e/c"])
def test_files_open_for_reading(tree: Tree, path: str) -> None:
    assert read(tree, path) == path


@pytest.mark.parametrize("path", ["", "d", "d/e"])
def test_directories_open(tree: Tree, path: str) -> None:
    assert read(tree, path) == "directory"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("nothing", "ENOENT"),
        ("d/nothing", "ENOENT"),
        ("nothing/a", "ENOENT"),
        ("a/b", "ENOTDIR"),
        ("d/b/c/d", "ENOTDIR"),
        ("x" * 256, "ENAMETOOLONG"),
        ("x" * 5000 + "/a", "ENAMETOOLONG"),
    ],
)
def test_what_is_not_there(tree: Tree, path: str, error: str) -> None:
    assert failure(tree, path) == error


def test_descriptors_are_not_inherited(tree: Tree) -> None:
    for path in ("a", "d"):
        opened = tree.open(names(path))
        assert not os.get_inheritable(opened.fd)
        os.close(opened.fd)


def test_a_very_deep_tree_is_no_matter(site: Path, tree: Tree) -> None:
    """Deeper than any path the system takes in one piece."""
    fd = os.open(site, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("n" * 200, dir_fd=fd)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    assert read(tree, ("n" * 200 + "/") * 100 + "file") == ""


# Links


@pytest.mark.parametrize(
    ("link", "target", "asked", "found"),
    [
        ("l", "a", "l", "a"),
        ("l", "d/b", "l", "d/b"),
        ("l", "./d/../d/b", "l", "d/b"),
        ("l", "d", "l", "directory"),
        ("l", "d", "l/b", "d/b"),
        ("l", "d/e", "l/c", "d/e/c"),
        ("l", ".", "l/l/l/a", "a"),  # the kernel follows it for ever, too
        ("d/l", "../a", "d/l", "a"),
        ("d/e/l", "..", "d/e/l/b", "d/b"),
        ("l", "{site}/a", "l", "a"),
        ("l", "{site}/d", "l/e/c", "d/e/c"),
        ("l", "{site}", "l/a", "a"),
        ("l", "../site/a", "l", "a"),  # out, and in again: where it ends is what counts
    ],
)
def test_links_that_stay_inside_are_followed(
    site: Path, tree: Tree, link: str, target: str, asked: str, found: str
) -> None:
    (site / link).symlink_to(target.format(site=site))
    assert read(tree, asked) == found


def test_links_to_links_are_followed(site: Path, tree: Tree) -> None:
    (site / "one").symlink_to("two")
    (site / "two").symlink_to("d/three")
    (site / "d/three").symlink_to("e")
    assert read(tree, "one/c") == "d/e/c"


@pytest.mark.parametrize(
    ("target", "below"),
    [
        ("../outside/secret", ""),
        ("../outside", ""),
        ("../outside", "secret"),
        ("{parent}/outside/secret", ""),
        ("{parent}/outside", "secret"),
        ("..", ""),
        ("..", "outside/secret"),
        ("..", "site/a"),
        ("/", ""),
        ("/", "etc/passwd"),
        ("/etc/passwd", ""),
        ("../site-old/secret", ""),  # begins like the root, as text
        ("../site-old", "secret"),
        ("{parent}/site-old", "secret"),
        ("/dev/null", ""),
        ("/proc/self/environ", ""),
    ],
)
def test_links_that_leave_the_root_are_refused(site: Path, tree: Tree, target: str, below: str) -> None:
    (site / "l").symlink_to(target.format(parent=site.parent))
    (site / "d/indirect").symlink_to("../l")
    assert failure(tree, f"l/{below}") == "EACCES"
    assert failure(tree, f"d/indirect/{below}") == "EACCES"


def test_behind_a_link_that_leaves_nobody_learns_what_exists(site: Path, tree: Tree) -> None:
    (site / "l").symlink_to("../outside")
    assert failure(tree, "l/secret") == failure(tree, "l/nothing") == "EACCES"


@pytest.mark.parametrize(
    ("target", "error"),
    [("nothing", "ENOENT"), ("d/nothing/b", "ENOENT"), ("../nothing", "ENOENT"), ("a/b", "ENOTDIR")],
)
def test_dangling_links(site: Path, tree: Tree, target: str, error: str) -> None:
    (site / "l").symlink_to(target)
    assert failure(tree, "l") == error


def test_loops(site: Path, tree: Tree) -> None:
    (site / "self").symlink_to("self")
    (site / "one").symlink_to("two")
    (site / "two").symlink_to("one")
    (site / "below").symlink_to("below/d")
    for path in ("self", "self/a", "one", "two/a", "below"):
        assert failure(tree, path) == "ELOOP"


def test_too_many_links(site: Path, tree: Tree) -> None:
    (site / "l").symlink_to(".")
    assert failure(tree, "l/" * 1000 + "a") == "ELOOP"


def test_the_root_may_be_a_link_itself(site: Path) -> None:
    (site.parent / "alias").symlink_to("site")
    (site / "l").symlink_to(site.parent / "alias" / "a")
    tree = Tree(site.parent / "alias")
    assert tree.path == os.fsencode(site)
    assert read(tree, "l") == "a"
    tree.close()


def test_the_root_may_be_that_of_the_system(site: Path) -> None:
    tree = Tree("/")
    (site / "l").symlink_to("a")
    assert read(tree, str(site / "l")) == "a"
    tree.close()


@pytest.mark.parametrize("type_", [str, os.fsencode, Path])
def test_the_root_in_any_form(site: Path, type_: type) -> None:
    tree = Tree(type_(site))
    assert read(tree, "a") == "a"
    tree.close()


@pytest.mark.parametrize(
    ("target", "asked", "found"),
    [
        ("../outside/secret", "l", "secret"),
        ("../outside", "l/secret", "secret"),
        ("{parent}/outside", "l/secret", "secret"),
        ("..", "l/outside/secret", "secret"),
        ("..", "l/site/d/b", "d/b"),
        ("..", "l/site/l/site/a", "a"),  # out, in, and out again
        ("/", "l", "directory"),
        ("d", "l/b", "d/b"),
    ],
)
def test_links_that_leave_the_root_may_be_allowed(site: Path, target: str, asked: str, found: str) -> None:
    (site / "l").symlink_to(target.format(parent=site.parent))
    (site.parent / "outside/back").symlink_to("../site/a")
    tree = Tree(site, Links.ALL)
    assert read(tree, asked) == found
    if target == "../outside":
        assert read(tree, "l/back") == "a"
    tree.close()


def test_with_all_links_fifos_are_still_not_opened(site: Path) -> None:
    os.mkfifo(site.parent / "fifo")
    (site / "l").symlink_to("../fifo")
    tree = Tree(site, Links.ALL)
    assert failure(tree, "l") == "EACCES"
    tree.close()


@pytest.mark.parametrize(("target", "asked"), [("a", "l"), ("d", "l/b"), (".", "l/a"), ("nothing", "l"), ("l", "l")])
def test_links_may_be_refused_altogether(site: Path, target: str, asked: str) -> None:
    (site / "l").symlink_to(target)
    tree = Tree(site, Links.NONE)
    assert failure(tree, asked) == "EACCES"
    assert read(tree, "d/b") == "d/b"
    tree.close()


# Hidden names


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("", False),
        ("a.b", False),
        ("a/b.c/d", False),
        (".a", True),
        ("a/.b", True),
        (".a/b", True),
        ("...", True),
        (".well-known", False),
        (".well-known/acme-challenge/x", False),
        (".well-known/.x", True),
        ("a/.well-known", True),
        (".well-known2", True),
    ],
)
def test_hidden_names(path: str, hidden: bool) -> None:
    assert is_hidden(names(path)) is hidden


# What is neither a file nor a directory is never opened


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The names of all that is opened."""
    log: list[object] = []
    really_open = os.open

    def open(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        log.append(path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open)
    return log


def test_a_fifo_is_not_opened(site: Path, tree: Tree, opened: list[object]) -> None:
    os.mkfifo(site / "fifo")
    (site / "l").symlink_to("fifo")
    assert failure(tree, "fifo") == failure(tree, "l") == "EACCES"
    assert failure(tree, "fifo/a") == "ENOTDIR"
    assert opened == [b"fifo"]  # the last one, as a directory, which has no effect


def test_a_socket_is_not_opened(site: Path, tree: Tree, opened: list[object]) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(site / "s"))
    listener.close()
    assert failure(tree, "s") == "EACCES"
    assert opened == []


def test_a_device_is_not_opened(site: Path, tree: Tree, opened: list[object]) -> None:
    try:
        os.mknod(site / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except OSError:
        pytest.skip("making a device is not allowed here")
    assert failure(tree, "null") == "EACCES"
    assert opened == []


# Races: another program renames things at the worst moment


After = Callable[[object, str, Callable[[], object]], None]


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> After:
    """after(module, name, act) has act() called once, when the next call of that function has returned."""

    def install(module: object, name: str, act: Callable[[], object]) -> None:
        really = getattr(module, name)

        def function(*args: object, **kwargs: object) -> object:
            monkeypatch.setattr(module, name, really)
            result = really(*args, **kwargs)
            act()
            return result

        monkeypatch.setattr(module, name, function)

    return install


@pytest.fixture
def bait(site: Path) -> Path:
    """A link to a file outside, to be renamed into the site."""
    (site.parent / "bait").symlink_to(site.parent / "outside/secret")
    return site.parent / "bait"


def swap_for_link(directory: Path, target: Path) -> None:
    """Puts a link to `target` in the place of `directory`."""
    directory.rename(directory.with_name("moved"))
    directory.symlink_to(target)


def test_a_file_becomes_a_link_when_it_was_just_looked_at(site: Path, tree: Tree, bait: Path, after: After) -> None:
    after(os, "stat", lambda: bait.rename(site / "a"))
    assert failure(tree, "a") == "ELOOP"


def test_a_file_becomes_a_fifo_when_it_was_just_looked_at(site: Path, tree: Tree, after: After) -> None:
    os.mkfifo(site.parent / "fifo")
    after(os, "stat", lambda: (site.parent / "fifo").rename(site / "a"))
    assert failure(tree, "a") == "ENOENT"


def test_a_directory_becomes_a_link_on_the_way(site: Path, tree: Tree, after: After) -> None:
    after(os, "open", lambda: swap_for_link(site / "d/e", site.parent / "outside"))  # when d was opened
    assert failure(tree, "d/e/secret") == "EACCES"


def test_a_directory_that_was_passed_may_become_a_link(site: Path, tree: Tree, after: After) -> None:
    """What is opened below it is still the same."""
    after(os, "open", lambda: swap_for_link(site / "d", site.parent / "outside"))
    assert read(tree, "d/e/c") == "d/e/c"


def test_the_target_of_a_link_becomes_a_link_to_the_outside(site: Path, tree: Tree, bait: Path, after: After) -> None:
    (site / "l").symlink_to("a")
    after(os.path, "realpath", lambda: bait.rename(site / "a"))
    assert failure(tree, "l") == "EACCES"


def test_the_way_to_the_target_of_a_link_becomes_a_link_to_the_outside(site: Path, tree: Tree, after: After) -> None:
    (site / "d/secret").write_text("harmless")
    (site / "l").symlink_to("d/secret")
    assert read(tree, "l") == "harmless"
    after(os.path, "realpath", lambda: swap_for_link(site / "d", site.parent / "outside"))
    assert failure(tree, "l") == "EACCES"


def test_the_root_may_be_renamed(site: Path, tree: Tree) -> None:
    site.rename(site.parent / "elsewhere")
    assert read(tree, "d/b") == "d/b"


# A root that is switched


def test_a_root_behind_a_link_is_renewed(site: Path, tree: Tree) -> None:
    """A deployment: the new site is put beside the old one, and a link renamed."""
    (site.parent / "new").mkdir()
    (site.parent / "new/a").write_text("new")
    (site.parent / "current").symlink_to("site")
    deployed = Tree(site.parent / "current")
    assert not deployed.renew()
    (site.parent / "next").symlink_to("new")
    (site.parent / "next").rename(site.parent / "current")
    assert read(deployed, "a") == "a"  # as long as nothing has looked
    assert deployed.renew()
    assert read(deployed, "a") == "new"
    assert deployed.path == os.fsencode(site.parent / "new")
    assert not deployed.renew()
    deployed.close()


def test_a_root_that_is_gone_stays(site: Path, tree: Tree) -> None:
    site.rename(site.parent / "elsewhere")
    assert not tree.renew()
    assert read(tree, "a") == "a"
    site.write_text("not a directory")
    assert not tree.renew()
    assert read(tree, "a") == "a"


# The object itself


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Tree(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Tree(tmp_path / "file")


def test_closing_twice_is_fine_and_opening_afterwards_is_not(site: Path) -> None:
    tree = Tree(site)
    tree.close()
    tree.close()
    with pytest.raises(ValueError, match="closed"):
        tree.open((b"a",))


def test_what_fails_halfway_leaks_nothing(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture counts."""

    def fail(fd: int) -> os.stat_result:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "fstat", fail)
    for path in ("a", "d/b", "d/e/c", "d"):
        assert failure(tree, path) == "EIO"
    monkeypatch.undo()


def test_opened_says_what_it_is(tree: Tree) -> None:
    opened = tree.open((b"a",))
    assert isinstance(opened, Opened)
    assert opened.status.st_size == 1
    os.close(opened.fd)
