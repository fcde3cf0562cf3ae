//! The two calls of i386 that carry others: `socketcall` and `ipc`.
//!
//! A rule for `bind` must hold for `socketcall(SYS_BIND)` as well, or a 32-bit program walks round it. The inner
//! call's arguments lie behind a pointer, so a rule with conditions says nothing about them.

/// The carrier of a call and the value of its first argument, and the bits of it that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// `socketcall` or `ipc`.
    pub(super) carrier: &'static str,
    /// The argument's value.
    pub(super) value: u64,
    /// The bits that the kernel looks at.
    pub(super) mask: u64,
}

/// Tells how i386 carries a call, if it does.
pub(super) fn carried(name: &str) -> Option<Carried> {
    let find = |table: &[(&str, u64)]| {
        let row = table.iter().find(|row| row.0 == name)?;
        Some(row.1)
    };
    if let Some(value) = find(&SOCKETCALL) {
        return Some(Carried {
            carrier: "socketcall",
            value,
            mask: 0xffff_ffff,
        });
    }
    find(&IPC).map(|value| Carried {
        carrier: "ipc",
        value,
        // the upper half is a version (ipc/syscall.c)
        mask: 0xffff,
    })
}

/// Tells whether a name exists as a carried call; `send` and `recv` exist only so on x86.
pub(super) fn is_known(name: &str) -> bool {
    carried(name).is_some()
}

/// `linux/net.h`.
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `linux/ipc.h`.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
