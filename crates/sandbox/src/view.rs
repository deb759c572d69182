//! What the agent sees of the host: a new root in memory, and in it only what the plan lists.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, mount_remount, move_mount,
    open_tree, unmount,
};

use crate::error::{SandboxError, Step as _};
use crate::plan::{Access, Entry};
use crate::syscalls::restrict_mount;

/// The parts of the host that a plan wants, held open: one place per entry, empty where nothing of the host is wanted.
pub(crate) struct HostParts(Vec<Option<OwnedFd>>);

impl HostParts {
    /// Opens them as the one who may: root before it stops being root, a user once the mount namespace is its own.
    pub(crate) fn open(view: &[Entry]) -> Result<Self, SandboxError> {
        view.iter().map(host_part).collect::<Result<_, _>>().map(Self)
    }
}

fn host_part(entry: &Entry) -> Result<Option<OwnedFd>, SandboxError> {
    let Entry::Bind { source, access, optional, .. } = entry else { return Ok(None) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, source, flags) {
        Err(Errno::NOENT | Errno::NOTDIR) if *optional => return Ok(None),
        tree => tree.step(format_args!("taking {} into view", source.display()))?,
    };
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if *access != Access::Device {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    if *access == Access::Read {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    restrict_mount(tree.as_fd(), attributes.bits().into()).step(format_args!("restricting {}", source.display()))?;
    Ok(Some(tree))
}

/// Builds the view; `/` is still the host's afterwards. Everything of the host was opened before: this hides a part of it.
pub(crate) fn build(view: &[Entry], parts: HostParts) -> Result<OwnedFd, SandboxError> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).step("detaching the mounts")?;
    let mount = memory(ROOT_MIB, 0o755).step("making the new root")?;
    attach(mount.as_fd(), CWD, STAGE).step("placing the new root")?;
    let root = open_directory(CWD, STAGE).step("entering the new root")?;
    for (entry, part) in view.iter().zip(parts.0) {
        place(root.as_fd(), entry, part).map_err(|error| {
            SandboxError::arming(format_args!("placing {}", entry.target().display()), std::io::Error::from(error))
        })?;
    }
    for needed in ["proc", "old"] {
        directory(root.as_fd(), Path::new(needed)).step(format_args!("placing /{needed}"))?;
    }
    Ok(root)
}

/// Mounts the new process table, makes `root` the root, and lets go of the host's. For the first process of the new pid
/// namespace.
pub(crate) fn enter() -> Result<(), SandboxError> {
    let root = open_directory(CWD, STAGE).step("entering the new root")?;
    let proc = filesystem("proc", &[])
        .step("making a process table")
        .map_err(|error| error.hint("a container around this hides parts of /proc: start it with an unmasked /proc"))?;
    attach(proc.as_fd(), root.as_fd(), "proc").step("mounting /proc")?;
    for name in READ_ONLY_PROC {
        cover(root.as_fd(), name).step(format_args!("covering /proc/{name}"))?;
    }
    rustix::process::fchdir(&root).step("entering the new root")?;
    rustix::process::pivot_root(".", "old").step("changing the root")?;
    rustix::process::chdir("/").step("entering the new root")?;
    unmount("/old", UnmountFlags::DETACH).step("letting go of the host's root")?;
    rustix::fs::rmdir("/old").step("letting go of the host's root")?;
    // Its owner is the agent's own user, whom no mode would keep out.
    let closed = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", closed, "").step("closing the root")
}

fn place(root: BorrowedFd<'_>, entry: &Entry, part: Option<OwnedFd>) -> rustix::io::Result<()> {
    match entry {
        Entry::Bind { target, .. } => match part {
            Some(part) => bind(root, target, &part),
            None => Ok(()),
        },
        Entry::Memory { target, mib, mode } => mount_on(root, target, &memory(*mib, *mode)?),
        Entry::Terminals { target } => {
            let terminals = filesystem("devpts", &[("ptmxmode", "0666"), ("mode", "0620")])?;
            mount_on(root, target, &terminals)
        }
        Entry::Link { target, text } => {
            let (parent, name) = parent(root, target)?;
            symlinkat(text, parent, name)
        }
        Entry::File { target, text } => {
            let file = new_file(root, target, 0o644)?;
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let written = rustix::io::write(&file, rest)?;
                rest = rest.get(written..).unwrap_or_default();
            }
            Ok(())
        }
        Entry::Directory { target } => directory(root, target).map(drop),
    }
}

fn bind(root: BorrowedFd<'_>, target: &Path, part: &OwnedFd) -> rustix::io::Result<()> {
    if is_a(part, FileType::Directory)? {
        return mount_on(root, target, part);
    }
    let (parent, name) = parent(root, target)?;
    match new_file(root, target, 0o600) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let place = openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // A directory here belongs to the agent of an earlier launch: a link in it must lead nowhere.
    if !is_a(&place, FileType::RegularFile)? {
        return Err(Errno::LOOP);
    }
    attach_to(part.as_fd(), place.as_fd())
}

fn mount_on(root: BorrowedFd<'_>, target: &Path, mount: &OwnedFd) -> rustix::io::Result<()> {
    attach_to(mount.as_fd(), directory(root, target)?.as_fd())
}

/// The directory at `path`, made where it is missing; no link on the way is followed.
fn directory(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut here = open_directory(root, ".")?;
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => {
                match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    // Below something read-only of the host it can only be there already.
                    Err(Errno::ROFS | Errno::ACCESS) => {}
                    Err(error) => return Err(error),
                }
                here = open_directory(here.as_fd(), name)?;
            }
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        }
    }
    Ok(here)
}

fn parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> rustix::io::Result<(OwnedFd, &'a std::ffi::OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((directory(root, path.parent().ok_or(Errno::INVAL)?)?, name))
}

fn new_file(root: BorrowedFd<'_>, path: &Path, mode: u32) -> rustix::io::Result<OwnedFd> {
    let (parent, name) = parent(root, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(mode))
}

fn open_directory(from: BorrowedFd<'_>, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(from, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn is_a(fd: &OwnedFd, kind: FileType) -> rustix::io::Result<bool> {
    // A device or socket counts as a file here: what it is mounted on is one.
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == kind)
}

fn memory(mib: u32, mode: u32) -> rustix::io::Result<OwnedFd> {
    filesystem("tmpfs", &[("size", &format!("{mib}m")), ("mode", &format!("{mode:o}"))])
}

fn filesystem(name: &str, options: &[(&str, &str)]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    // Terminals are devices.
    if name != "devpts" {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Lays a read-only picture of a part of /proc over itself; one that this kernel does not have needs none.
fn cover(root: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let path = format!("proc/{name}");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let picture = match open_tree(root, &path, flags) {
        Err(Errno::NOENT) => return Ok(()),
        picture => picture?,
    };
    restrict_mount(picture.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    attach(picture.as_fd(), root, &path)
}

fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    move_mount(mount, "", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn attach_to(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// Where the new root stands until it is one: a directory that every machine has.
const STAGE: &str = "/tmp";

/// Room for generated files and mount points; the agent cannot write there.
const ROOT_MIB: u32 = 16;

/// What its owner could change through /proc: the network namespace's settings belong to the agent's user.
const READ_ONLY_PROC: [&str; 5] = ["sys", "irq", "bus", "fs", "sysrq-trigger"];
