"""A machine that Bochs emulates, to run programs on a processor that this machine is not: Linux of a Debian package, programs
of this machine with their libraries, their output back.

No BIOS, boot loader or disk image tools are needed: boot.S is the machine's ROM; the disk is the kernel's parameters, an
archive of the files (the root folder in memory) and the kernel, one after the other. init.c runs the commands. Everything
lies in one folder, nothing is installed.
"""
import os
import pathlib
import re
import shutil
import struct
import subprocess
import time

from emulation import Missing, apt_settings, run

HERE = pathlib.Path(__file__).resolve().parent
KERNEL_PACKAGES = ("linux-image-cloud-amd64", "linux-image-amd64")  # the first has no drivers to look for hardware
MEMORY = 256 << 20  # besides what the files need, three times: on the disk read, unpacked, read into a program
LOAD = 16 << 20     # where the disk goes
PAGE, SECTOR, CYLINDER = 4096, 512, 16 * 63 * 512
# Instructions a second of the emulated clock. Bochs does a few times as many: what waits (the kernel's tests of its timers)
# waits for a number of instructions, the fewer the sooner; what is done at every tick of the clock costs less when many.
SPEED = 20_000_000
KERNEL_OPTIONS = [
    "console=ttyS0", "loglevel=1", "panic=-1", "reboot=t",  # a panic is printed and ends Bochs
    "nokaslr", "mitigations=off",
    # What Bochs 2.7 announces and has not: the sizes of the protection keys' and the compact states are wrong, and Linux
    # would do without AVX; with fsrm but no fast strings, Linux 6.1 moves memory by a negative length.
    "clearcpuid=pku,xsaves,xsavec,fsrm,aperfmperf",
    f"tsc_early_khz={SPEED // 1000}",  # the processor's own answer is its model's
    # These alone take longer than all the rest of the start: tests of ciphers, certificates, descriptions for tracing and BPF.
    "cryptomgr.notests", "initcall_blacklist=" + ",".join("""
    load_system_certificate_list init_encrypted digsig_init trace_eval_init tracer_init_tracefs init_kprobe_trace
    init_blk_tracer ftrace_check_for_weak_functions kfunc_init bpf_key_sig_kfuncs_init bpf_rstat_kfunc_init
    bpf_prog_test_run_init bpf_tcp_ca_kfunc_init cubictcp_register""".split()),
]
BOCHSRC = """cpu: model={processor}, count=1, ips={speed}, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={memory}, host={memory}
romimage: file=boot.rom
vgaromimage: file=/usr/share/vgabios/vgabios.bin
display_library: term
ata0-master: type=disk, mode=flat, path=disk, cylinders=0, heads=16, spt=63
com1: enabled=1, mode=file, dev=console
speaker: enabled=0
clock: sync=none
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
"""


def have_bochs():
    return all((shutil.which("bochs"), pathlib.Path("/usr/share/vgabios/vgabios.bin").exists(),
                list(pathlib.Path("/usr/lib").glob("*/bochs/plugins/libbx_term_gui.so"))))


# ---- the kernel ----

def get_kernel(folder):
    """The kernel of a Debian package, unpacked in the folder, once."""
    kernel = folder / "vmlinuz"
    if kernel.exists():
        return kernel
    settings = apt_settings(folder / "apt", "amd64")
    run(["apt-get", "-c", settings, "update", "-qq"], "reading the lists of packages")
    for package in KERNEL_PACKAGES:
        depends = subprocess.run(["apt-cache", "-c", settings, "depends", package], capture_output=True, text=True).stdout
        names = re.findall(r"^ +Depends: (linux-image-\S+)", depends, flags=re.M)
        if names:
            break
    else:
        raise Missing("the package sources of this machine have no " + " or ".join(KERNEL_PACKAGES))
    work = folder / "kernel"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run(["apt-get", "-c", settings, "download", "-qq", names[0]], "downloading a kernel", cwd=work)
    for deb in work.glob("*.deb"):
        run(["dpkg-deb", "-x", deb, work], f"unpacking {deb.name}")
    found = sorted((work / "boot").glob("vmlinuz-*"))
    if not found:
        raise Missing(f"{names[0]} has no kernel")
    shutil.copy(found[0], kernel)
    shutil.rmtree(work)
    return kernel


# ---- the files of the machine ----

class Archive:
    """The initial files, as cpio (newc) has them; folders come before what is in them."""

    def __init__(self):
        self.parts, self.names, self.size = [], set(), 0

    def append(self, data):
        self.parts.append(data + b"\0" * (-len(data) % 4))
        self.size += len(self.parts[-1])

    def entry(self, name, mode, data=b"", device=(0, 0)):
        name = str(name).strip("/")
        if name in self.names:
            return
        self.names.add(name)
        fields = [len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        self.append(b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0")
        self.append(data)

    def folder(self, path):
        for parent in [*reversed(pathlib.PurePosixPath(path).parents), path]:
            if str(parent) != "/":
                self.entry(parent, 0o40755)

    def file(self, path, data=None, mode=0o100755):
        self.folder(pathlib.PurePosixPath(path).parent)
        self.entry(path, mode, pathlib.Path(path).read_bytes() if data is None else data)

    def tree(self, path):
        for p in sorted(path.rglob("*")) if path.is_dir() else [path]:
            self.file(p) if p.is_file() else self.folder(p)

    def program(self, path, scratch):
        """The program, without what only a debugger reads, and the libraries it is linked with."""
        done = subprocess.run(["objcopy", "--strip-debug", path, scratch], capture_output=True)
        self.file(path, None if done.returncode else scratch.read_bytes())
        linked = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        if "not found" in linked:
            raise Missing(f"{path} lacks libraries on this machine: {linked}")
        for library in re.findall(r"(/\S+) \(0x", linked):
            self.file(library)

    def bytes(self):
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def is_setting(word):
    return "=" in word


def make_archive(folder, commands, work_folder, more_paths):
    archive, init = Archive(), folder / "init"
    run(["gcc", "-O2", "-static", "-s", HERE / "init.c", "-o", init], "compiling the first process")
    for name in ("/dev", "/proc", "/sys", "/tmp", work_folder):
        archive.folder(pathlib.Path(name))
    archive.entry("/dev/console", 0o20600, device=(5, 1))
    archive.file("/init", init.read_bytes())
    for words in commands:
        archive.program(next(word for word in words if not is_setting(word)), folder / "stripped")
    for path in more_paths:
        archive.tree(pathlib.Path(path))
    strings = [str(work_folder)] + [word for words in commands for word in [*words, ""]]
    archive.file("/commands", b"".join(s.encode() + b"\0" for s in strings))
    return archive.bytes()


# ---- disk and ROM ----

def round_up(n, unit):
    return (n + unit - 1) // unit * unit


def make_parameters(kernel, memory_size, archive_size, options_at, archive_at):
    """struct boot_params: the kernel's own header, and what the loader has to say (Documentation/arch/x86/boot.rst)."""
    page = bytearray(PAGE)
    header_end = 0x202 + kernel[0x201]
    page[0x1f1:header_end] = kernel[0x1f1:header_end]
    page[0x210] = 0xff  # a loader without a number
    struct.pack_into("<II", page, 0x218, archive_at, archive_size)
    struct.pack_into("<I", page, 0x228, options_at)
    memory = [(0, 0x9f000), (1 << 20, memory_size - (1 << 20))]
    page[0x1e8] = len(memory)
    for i, (start, size) in enumerate(memory):
        struct.pack_into("<QQI", page, 0x2d0 + 20 * i, start, size, 1)
    return bytes(page)


def make_disk(folder, kernel, memory_size, archive):
    """Parameters, options, archive, kernel: the kernel last, because it unpacks itself onwards from where it lies."""
    options_at, archive_at = LOAD + PAGE, LOAD + 2 * PAGE
    entry = round_up(archive_at + len(archive), 2 << 20)
    setup_size = ((kernel[0x1f1] or 4) + 1) * SECTOR
    disk = make_parameters(kernel, memory_size, len(archive), options_at, archive_at)
    disk += " ".join(KERNEL_OPTIONS).encode().ljust(PAGE, b"\0") + archive
    disk = disk.ljust(entry - LOAD, b"\0") + kernel[setup_size:]
    disk = disk.ljust(round_up(len(disk), 256 * SECTOR), b"\0")
    (folder / "disk").write_bytes(disk.ljust(round_up(len(disk), CYLINDER), b"\0"))
    run(["gcc", "-m32", "-c", f"-DLOAD={LOAD}", f"-DSECTORS={len(disk) // SECTOR}", f"-DENTRY={entry}", HERE / "boot.S",
         "-o", folder / "boot.o"], "assembling the ROM")
    run(["ld", "-m", "elf_i386", "-Ttext=0xf0000", "--oformat=binary", "-e", "0", folder / "boot.o", "-o", folder / "boot.rom"],
        "linking the ROM")


# ---- running ----

class Result:
    def __init__(self, status, text, seconds):
        self.status, self.text, self.seconds = status, text, seconds


def split_console(text):
    """(status, output) of each command that ended, and what comes after the last of them."""
    parts = re.split(r"\n?@ command \d+: (\d+)\n", text.replace("\r", ""))
    return [(int(status), output) for output, status in zip(parts[0::2], parts[1::2])], parts[-1]


def read(path):
    return path.read_text(errors="replace") if path.exists() else ""


def processor_seconds(process):
    """What it has used: a limit that does not depend on what else this machine does."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(folder):
    helps = subprocess.run(["bochs", "--help"], capture_output=True, text=True, errors="replace")
    command = ["bochs", "-f", "bochsrc"]
    if "-rc " in helps.stdout + helps.stderr:  # built with its debugger, which waits for commands
        (folder / "debugger").write_text("continue\nquit\n")
        command += ["-rc", "debugger"]
    with open(folder / "bochs.out", "wb") as out:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                env={**os.environ, "TERM": "xterm"})


def run_commands(folder, kernel, processor, commands, time_limit, work_folder, more_paths=()):
    """Runs commands (words; first ones may be NAME=VALUE) on a machine of their own, for at most so many seconds of this
    machine's processor. Returns a Result for each that began: the exit status, 128 and more for a signal, None for one that
    did not end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = make_archive(folder, commands, work_folder, more_paths)
    memory = round_up(MEMORY + 3 * len(archive), 1 << 20)
    make_disk(folder, kernel.read_bytes(), memory, archive)
    (folder / "bochsrc").write_text(BOCHSRC.format(processor=processor, speed=SPEED, memory=memory >> 20))
    began, ends = time.monotonic(), []
    bochs = start(folder)
    try:
        while bochs.poll() is None and processor_seconds(bochs) < time_limit:
            time.sleep(0.2)
            ends += [time.monotonic()] * (len(split_console(read(folder / "console"))[0]) - len(ends))
    finally:
        bochs.kill()
        bochs.wait()
    ended, rest = split_console(read(folder / "console"))
    times = [began, *ends] + [time.monotonic()] * (len(commands) + 1)
    results = [Result(status, text, times[i + 1] - times[i]) for i, (status, text) in enumerate(ended)]
    if len(ended) < len(commands):
        said = re.findall(r".*>>PANIC<<.*\n?", read(folder / "bochs.log") + read(folder / "bochs.out"))
        results.append(Result(None, rest + "".join(said), times[len(ended) + 1] - times[len(ended)]))
    return results
