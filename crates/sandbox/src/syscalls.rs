//! The system calls that no crate offers safely, and descriptors that come by number. The only unsafe code.

#![expect(unsafe_code, reason = "each block is one call that has no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that the parent process passed by number.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: called once per number, at the start of a stage, before this process opened anything of its own: whatever
    // has the number came from the parent. A number nobody has gives errors at its first use, nothing worse.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets no descriptor but the standard three live on in what this process executes.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: takes three integers, and only sets a flag on descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    checked(result)
}

/// Adds restrictions to a mount and all mounts below it.
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let wanted = MountAttributes { set: attributes, clear: 0, propagation: 0, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, and the structure lives through the call and has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<MountAttributes>(),
        )
    };
    checked(result)
}

/// Leaves the session keyring of whoever started this for a new, empty one.
pub(crate) fn join_new_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    checked(result.min(0))
}

fn checked(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct mount_attr` of the kernel's interface.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn the_standard_descriptors_are_nobodys_gift() {
        assert!(inherited(2).is_err());
        assert!(inherited(-1).is_err());
    }

    #[test]
    fn what_is_open_ends_at_exec() {
        let file = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        close_on_exec().unwrap();
        assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
