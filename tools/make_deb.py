#!/usr/bin/env python3
"""Debian packages from deploy/debian: tandem, libtandem0, libtandem-dev, in build/deb. Then looks whether they hold what
they should: their contents, lintian where it is there, and an installation in an empty root in which the program runs.

    tools/make_deb.py [--build build/package] [--out build/deb] [--jobs N]

The build is that of the preset `package`: without what only tests use, and without the mlx backend. Dependencies are found by
dpkg-shlibdeps from what the files link. Debian and its relatives only."""
import argparse
import email.utils
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
RULES = ROOT / "deploy" / "debian"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
NEEDED = ("dpkg-deb", "dpkg-shlibdeps", "dpkg", "cmake", "ninja")


def run(*words, **options):
    return subprocess.run([str(word) for word in words], check=True, text=True, **options)


def output(*words, **options):
    return run(*words, stdout=subprocess.PIPE, **options).stdout


def stanzas():
    """Of the control file: the source's, then one for each package, as text."""
    return [s.strip() + "\n" for s in (RULES / "control").read_text().split("\n\n")]


def field(stanza, name):
    return re.search(rf"^{name}: (.*)$", stanza, flags=re.M).group(1)


# ---- files ----

def stage(build, staging, jobs):
    run("cmake", "--preset", "package", "-B", build, cwd=ROOT, stdout=subprocess.DEVNULL)
    run("ninja", "-C", build, "-j", jobs, "tandem", "tandem_shared", "tandem_static", stdout=subprocess.DEVNULL)
    shutil.rmtree(staging, ignore_errors=True)
    run("cmake", "--install", build, "--prefix", "/usr", "--strip", env={**os.environ, "DESTDIR": str(staging)},
        stdout=subprocess.DEVNULL)
    # --strip leaves the static library alone
    run("strip", "--strip-debug", staging / "usr" / "lib" / "libtandem.a")
    (staging / "etc" / "tandem").mkdir(parents=True)
    shutil.copy(RULES / "tandem.env", staging / "etc" / "tandem" / "tandem.env")
    for page in (staging / "usr" / "share" / "man").rglob("*.1"):
        compress(page, page.read_bytes())
        page.unlink()


def compress(path, data):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(data, 9, mtime=0))


def move_files(name, staging, tree):
    """What NAME.install lists, from what no other package has taken."""
    for line in (RULES / f"{name}.install").read_text().split("\n"):
        pattern, _, target = (part.strip() for part in line.partition("=>"))
        if not pattern:
            continue
        found = sorted(staging.glob(pattern))
        if not found:
            sys.exit(f"make_deb: {name}.install: there is no {pattern}")
        for path in found:
            to = tree / (target or path.relative_to(staging))
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)


def write_doc(name, tree, version):
    doc = tree / "usr" / "share" / "doc" / name
    doc.mkdir(parents=True, exist_ok=True)
    (doc / "LICENSE").unlink(missing_ok=True)  # it is in copyright
    shutil.copy(RULES / "copyright", doc / "copyright")
    when = email.utils.formatdate(int(os.environ.get("SOURCE_DATE_EPOCH") or
                                      output("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()))
    compress(doc / "changelog", f"tandem ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
             f" -- {field(stanzas()[0], 'Maintainer')}  {when}\n".encode())


# ---- control data ----

def dependencies(tree, work):
    files = [p for p in tree.rglob("*") if p.is_file() and not p.is_symlink() and p.read_bytes()[:4] == b"\x7fELF"]
    if not files:
        return ""
    (work / "debian").mkdir(exist_ok=True)
    shutil.copy(RULES / "control", work / "debian" / "control")
    found = output("dpkg-shlibdeps", "-O", *files, cwd=work, stderr=subprocess.DEVNULL)
    return found.strip().removeprefix("shlibs:Depends=")


def write_control(stanza, name, tree, work, version):
    source = stanzas()[0]
    values = {"${shlibs:Depends}": dependencies(tree, work), "${binary:Version}": version}
    text = stanza.replace("Architecture: any", f"Architecture: {output('dpkg', '--print-architecture').strip()}")
    for key, value in values.items():
        text = text.replace(key, value)
    size = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink()) // 1024 + 1
    lines = [f"Source: {field(source, 'Source')}", f"Version: {version}", f"Installed-Size: {size}",
             f"Maintainer: {field(source, 'Maintainer')}", f"Priority: {field(source, 'Priority')}"]
    if "Section:" not in text:
        lines.append(f"Section: {field(source, 'Section')}")
    first, rest = text.split("\n", 1)
    debian = tree / "DEBIAN"
    debian.mkdir()
    (debian / "control").write_text("\n".join([first, *lines, rest]))
    for part in (*SCRIPTS, "conffiles", "triggers", "shlibs"):
        if (RULES / f"{name}.{part}").exists():
            given = (RULES / f"{name}.{part}").read_text()
            (debian / part).write_text(given.replace("${binary:Version}", version))
            (debian / part).chmod(0o755 if part in SCRIPTS else 0o644)
    sums = output("sh", "-c", "find . -path ./DEBIAN -prune -o -type f -printf '%P\\n' | sort | xargs -d '\\n' md5sum", cwd=tree)
    (debian / "md5sums").write_text(sums)


def modes(tree):
    """Whatever this user's umask is."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def build_all(build, out, jobs):
    staging, work = out / "staging", out / "work"
    shutil.rmtree(out, ignore_errors=True)
    work.mkdir(parents=True)
    stage(build, staging, jobs)
    version = re.search(r"^CMAKE_PROJECT_VERSION:STATIC=(.*)$", (build / "CMakeCache.txt").read_text(), flags=re.M).group(1)
    packages = []
    by_name = {field(s, "Package"): s for s in stanzas()[1:]}
    for name in sorted(by_name):  # libtandem-dev takes the examples out of the documents of tandem
        tree = work / name
        move_files(name, staging, tree)
        write_doc(name, tree, version)
        write_control(by_name[name], name, tree, work, version)
        modes(tree)
        package = out / f"{name}_{version}_{output('dpkg', '--print-architecture').strip()}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, package, stdout=subprocess.DEVNULL)
        packages.append(package)
    left = [p for p in staging.rglob("*") if not p.is_dir()]
    if left:
        sys.exit(f"make_deb: no package takes {left[0].relative_to(staging)}")
    shutil.rmtree(staging)
    shutil.rmtree(work)
    return packages


# ---- checks ----

def check_contents(packages):
    listing = {p.name.split("_")[0]: output("dpkg-deb", "-c", p) for p in packages}
    for name, wanted in (("tandem", "./usr/bin/tandem\n"), ("tandem", "./etc/tandem/tandem.env\n"),
                         ("tandem", "/tandem.service\n"), ("libtandem0", "./usr/lib/libtandem.so.0 ->"),
                         ("libtandem-dev", "./usr/include/tandem.h\n"), ("libtandem-dev", "./usr/lib/pkgconfig/tandem.pc\n")):
        if wanted not in listing[name]:
            sys.exit(f"make_deb: {name} does not hold {wanted.strip()}")
    if re.search(r"^\S+ (?!root/root)", "".join(listing.values()), flags=re.M):
        sys.exit("make_deb: a file does not belong to root")


def check_installed(packages, root):
    """dpkg itself unpacks and configures them in an empty root, and removes them."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "var" / "lib" / "dpkg" / "info").mkdir(parents=True)
    (root / "var" / "lib" / "dpkg" / "updates").mkdir()
    (root / "var" / "lib" / "dpkg" / "status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-not-root", "--force-script-chrootless", "--log=/dev/null"]
    wrap = [] if os.geteuid() == 0 or not shutil.which("fakeroot") else ["fakeroot"]
    run(*wrap, *dpkg, "-i", *packages, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    version = output(root / "usr" / "bin" / "tandem", "version").split("\n")[0]
    unit = (root / "usr" / "lib" / "systemd" / "system" / "tandem.service").read_text()
    if "ExecStart=/usr/bin/tandem serve" not in unit:
        sys.exit("make_deb: the unit does not start /usr/bin/tandem")
    run(*wrap, *dpkg, "-P", *(p.name.split("_")[0] for p in packages), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    left = [p for p in (root / "usr").rglob("*") if p.is_file()] if (root / "usr").exists() else []
    if left or (root / "etc" / "tandem" / "tandem.env").exists():
        sys.exit(f"make_deb: a purge leaves {left[:1]}")
    shutil.rmtree(root)
    return version


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "package")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "deb")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 2))
    arguments = parser.parse_args()
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        sys.exit(f"make_deb: needs {', '.join(missing)} (Debian: dpkg-dev)")
    out = arguments.out.absolute()
    packages = build_all(arguments.build.absolute(), out, arguments.jobs)
    check_contents(packages)
    version = check_installed(packages, out / "root")
    if shutil.which("lintian"):
        run("lintian", "--fail-on", "error", *packages)
    else:
        print("lintian is not here: not run")
    for package in packages:
        print(f"{package.relative_to(out.parent.parent)}: {package.stat().st_size / 1e6:.1f} MB, "
              f"{output('dpkg-deb', '-f', package, 'Depends').strip()}")
    print(f"installed, run and removed in an empty root: {version}")


if __name__ == "__main__":
    main()
