//! Who the agent is. Root's user would own the host's files whatever the capabilities, so root's sessions are nobody's.

use rustix::process::DumpableBehavior;
use rustix::thread::{Gid, Uid};

use crate::error::{SandboxError, Step as _};

/// The user and group of a sandbox that `uid` and `gid` start. For root it is a user that the machine does not have,
/// picked by `seed`, so that two sessions are two users.
pub fn of_session(uid: u32, gid: u32, seed: u32, is_taken: impl Fn(u32) -> bool) -> (u32, u32) {
    if uid != 0 {
        return (uid, gid);
    }
    let places = LAST_DYNAMIC - FIRST_DYNAMIC + 1;
    let free = (0..places).map(|step| FIRST_DYNAMIC + (seed.wrapping_add(step)) % places).find(|uid| !is_taken(*uid));
    let uid = free.unwrap_or(OVERFLOW);
    (uid, uid)
}

/// Gives up root for good; for anybody else nothing changes.
pub(crate) fn drop_root(uid: u32, gid: u32) -> Result<(), SandboxError> {
    if uid == 0 || gid == 0 {
        return Err(SandboxError::arming("choosing the user", "a session never runs as root"));
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).step("leaving root's groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).step("leaving root's group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step("leaving root's user")?;
    // The change took it away, and with it the right to describe the new user namespace.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).step("owning itself")
}

/// The range that service managers give out to users that no account file knows.
const FIRST_DYNAMIC: u32 = 61_184;
const LAST_DYNAMIC: u32 = 65_519;
const OVERFLOW: u32 = 65_534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_stays_and_root_becomes_nobody_in_particular() {
        assert_eq!(of_session(1000, 100, 7, |_| false), (1000, 100));
        let (uid, gid) = of_session(0, 0, u32::MAX, |_| false);
        assert!((FIRST_DYNAMIC..=LAST_DYNAMIC).contains(&uid) && uid == gid);
        assert_ne!(of_session(0, 0, 1, |_| false), of_session(0, 0, 2, |_| false));
        let first = of_session(0, 0, 1, |_| false).0;
        assert_eq!(of_session(0, 0, 1, |uid| uid == first).0, first + 1);
        assert_eq!(of_session(0, 0, 1, |_| true).0, OVERFLOW);
    }

    #[test]
    fn root_is_refused_even_when_it_is_asked_for() {
        assert!(drop_root(0, 5).is_err());
        assert!(drop_root(5, 0).is_err());
    }
}
