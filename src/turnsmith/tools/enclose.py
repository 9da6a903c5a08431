"""Encloses one program. Run by its path as `python -I -S enclose.py ...` for each program; imports nothing of
ours, so that it starts in some milliseconds, and never imported, so that it may fork.

Arguments: FORM PLACE STATUS PYTHON, then the limits in the order of LIMITS, then the paths that are visible.
PLACE has the folders `box`, with program.py and its files, and `root`, an empty one. To STATUS, a descriptor,
go lines: `lacks WHAT`, `failed WHY`, `started`, `ended CODE CPU_SECONDS`. SIGTERM ends the program.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

LIMITS: tuple[str, ...] = ("cpu_seconds", "memory_bytes", "file_bytes", "files", "processes", "descriptors")
NOBODY = 65534
OWN = 0x70000000  # user ids from here on belong to nobody: with one for each program none sees another
# From <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>.
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
)  # fmt: skip
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
KEPT = 2 | 4 | 8 | 1024 | 2048  # flags of a mount, the same in statvfs, that a remount must not take away
RELATIME, SAID_RELATIME = 1 << 21, 4096
DETACH = 2
PDEATHSIG, DUMPABLE, SUBREAPER, NO_NEW_PRIVS = 1, 4, 36, 38

# Without `site`, so that what is installed changes nothing, but with its `exit` and `quit`.
PROGRAM = """
import site
site.setquit()
del site
__file__ = "program.py"
exec(compile(open(__file__, "rb").read(), __file__, "exec"))
"""
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library; OSError says which one failed on what."""
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(LIBC, name)(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name} {arguments[:2]}: {os.strerror(number)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    call("mount", *(one and one.encode() for one in (source, target, kind)), flags, data and data.encode())


def tell(status: int, line: str) -> None:
    os.write(status, f"{line}\n".encode())


# ------------------------------------------------------------------------------------- namespaces


def isolate(place: str, status: int, visible: list[str], given: dict[str, int]) -> None:
    """Put this process, and the next one that it forks, where there is nothing but the box and Python."""
    proc, me = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY), os.getpid()
    outside = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    if os.geteuid() == 0:
        user = own_user()
        call("unshare", outside)
        furnish(place, visible, given, user)
        become(user)
        call("prctl", DUMPABLE, 1, 0, 0, 0)  # else /proc/PID belongs to root since the user has changed
        call("unshare", NEWUSER)
        map_user(proc, me, user, user)
    else:
        user, group = os.getuid(), os.getgid()
        call("unshare", outside | NEWUSER)
        map_user(proc, me, user, group)
        furnish(place, visible, given, NOBODY)
    try:
        write(proc, "sys/user/max_user_namespaces", "0")  # in namespaces of its own it could mount
    except OSError:
        tell(status, "lacks a ban on further namespaces")
    os.close(proc)


def own_user() -> int:
    """A user id that nobody has; `nobody` where ids end earlier, as in some containers."""
    with open("/proc/self/uid_map") as opened:  # noqa: PTH123 (pathlib takes longer to import than all else)
        ranges = [[int(number) for number in line.split()] for line in opened]
    own = OWN + os.getpid()
    return own if any(first <= own < first + count for first, _, count in ranges) else NOBODY


def become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def map_user(proc: int, me: int, user: int, group: int) -> None:
    """Let the user that we are be `nobody` inside, or itself where it is one of OWN."""
    inside = user if user >= OWN else NOBODY
    write(proc, f"{me}/setgroups", "deny")
    write(proc, f"{me}/uid_map", f"{inside} {user} 1")
    write(proc, f"{me}/gid_map", f"{inside} {group} 1")


def write(folder: int, path: str, text: str) -> None:
    opened = os.open(path, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(opened, text.encode())
    finally:
        os.close(opened)


def furnish(place: str, visible: list[str], given: dict[str, int], user: int) -> None:
    """Make a new root of the visible paths, read-only, and the box, which lies in memory."""
    mount(None, "/", None, REC | PRIVATE)
    root, box = f"{place}/root", f"{place}/root/box"
    mount("root", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for path in visible:
        show(path, root + path)
    os.mkdir(box)  # noqa: PTH102
    room = f"size={given['file_bytes']},nr_inodes={given['files'] + 1}"
    mount("box", box, "tmpfs", NOSUID | NODEV, f"{room},mode=700,uid={user},gid={user}")
    copy(f"{place}/box", box)
    if os.geteuid() == 0:
        hand_over(box, user)
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    mount(None, "/", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)


def show(path: str, target: str) -> None:
    """Make a file, folder or link of the system visible at the same place of the new root."""
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    if os.path.islink(path):  # noqa: PTH114
        os.symlink(os.readlink(path), target)  # noqa: PTH115, PTH211
        return
    if os.path.isdir(path):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    mount(path, target, None, BIND | REC)
    said = os.statvfs(target).f_flag
    kept = (said & KEPT) | (RELATIME if said & SAID_RELATIME else 0)
    device = path.startswith("/dev/")
    mount(None, target, None, REMOUNT | BIND | RDONLY | NOSUID | kept | (0 if device else NODEV))


def copy(folder: str, to: str) -> None:
    """All files below a folder. (shutil takes longer to import than the rest of this file to run.)"""
    for above, folders, files in os.walk(folder):
        target = to + above[len(folder) :]
        for name in folders:
            os.mkdir(f"{target}/{name}")  # noqa: PTH102
        for name in files:
            with open(f"{above}/{name}", "rb") as source, open(f"{target}/{name}", "wb") as opened:  # noqa: PTH123
                opened.write(source.read())


def hand_over(folder: str, user: int) -> None:
    os.chown(folder, user, user)
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(f"{above}/{name}", user, user)


# -------------------------------------------------------------------------------------- the program


def bound(status: int, given: dict[str, int], processes: int | None) -> None:
    """Set the limits of the process that the program will be."""
    cpu, space = given["cpu_seconds"], given["memory_bytes"]
    limits = {
        "CPU": (cpu, cpu + 1),  # a signal, then the end
        "AS": (space, space),
        "FSIZE": (given["file_bytes"], given["file_bytes"]),
        "NOFILE": (given["descriptors"], given["descriptors"]),
        "CORE": (0, 0),
        "MSGQUEUE": (0, 0),
        **({"NPROC": (processes, processes)} if processes is not None else {}),
    }
    names = {"CPU": "CPU time", "AS": "memory", "FSIZE": "the size of a file", "NOFILE": "open files"}
    for name, pair in limits.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), pair)
        except (AttributeError, ValueError, OSError):
            if name in names:
                tell(status, f"lacks a limit of {names[name]}")
    if processes is None:
        tell(status, "lacks a limit of processes")


def turn_into(python: str, status: int, given: dict[str, int], processes: int | None) -> None:
    """Become the program. Comes back only if it cannot be started."""
    try:
        bound(status, given, processes)
        tell(status, "started")
        os.execve(python, [python, "-I", "-S", "-B", "-X", "utf8", "-c", PROGRAM], {})
    except OSError as error:
        tell(status, f"failed {error}")


def awaited(status: int, program: int) -> None:
    """Wait for the program, and for what is handed to us meanwhile; say how it ended."""
    while True:
        ended, code, used = os.wait4(-1, 0)
        if ended == program:
            cpu = used.ru_utime + used.ru_stime
            return tell(status, f"ended {os.waitstatus_to_exitcode(code)} {cpu:.3f}")


def in_namespaces(place: str, status: int, python: str, given: dict[str, int], visible: list[str]) -> None:
    """The first process of a namespace of processes waits for the program; with it all others end."""
    isolate(place, status, visible, given)
    first = os.fork()
    if first == 0:
        call("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        call("prctl", DUMPABLE, 0, 0, 0, 0)
        os.chdir("/box")
        program = os.fork()
        if program == 0:
            turn_into(python, status, given, given["processes"] + 2)  # this one and its parent count too
            os._exit(1)
        awaited(status, program)
        os._exit(0)
    signal.signal(signal.SIGTERM, lambda number, frame: end(first))
    call("prctl", PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.waitpid(first, 0)


def by_limits(place: str, status: int, python: str, given: dict[str, int]) -> None:
    """What can be done where namespaces are not allowed. Descendants are handed to us, and ended."""
    linux = sys.platform == "linux"
    user = own_user() if os.geteuid() == 0 and linux else NOBODY
    if linux:
        call("prctl", SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() == 0:
        os.chmod(place, 0o711)  # noqa: PTH101
        hand_over(f"{place}/box", user)
        processes: int | None = given["processes"]
    else:
        processes = given["processes"] + running() if linux else None
    os.chdir(f"{place}/box")
    program = os.fork()
    if program == 0:
        os.setsid()
        if os.geteuid() == 0:
            become(user)
        if linux:
            call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
            call("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        turn_into(python, status, given, processes)
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda number, frame: end(program))
    if linux:
        call("prctl", PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    awaited(status, program)
    sweep(program)


def end(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself


def running() -> int:
    """Processes and threads of this user, all of which count towards its limit."""
    count, me = 0, os.getuid()
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208
        try:
            if os.stat(f"/proc/{name}").st_uid == me:  # noqa: PTH116
                count += len(os.listdir(f"/proc/{name}/task"))  # noqa: PTH208
        except OSError:  # it has ended meanwhile
            continue
    return count


def sweep(group: int) -> None:
    """End what the program has left: its group, and on Linux all that was handed to us since."""
    while True:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # no member is left
        for child in children():
            end(child)
        try:
            if os.waitpid(-1, 0 if children() else os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


def children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as opened:  # noqa: PTH123
            return [int(number) for number in opened.read().split()]
    except OSError:
        return []


def main(form: str, place: str, status_: str, python: str, *others: str) -> None:
    """As the file's docstring says."""
    status, given = int(status_), dict(zip(LIMITS, map(int, others[: len(LIMITS)]), strict=True))
    os.set_inheritable(status, False)
    try:
        if form == "namespaces":
            call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
            in_namespaces(place, status, python, given, list(others[len(LIMITS) :]))
        else:
            by_limits(place, status, python, given)
    except (OSError, AttributeError) as error:
        tell(status, f"failed {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
