//! Users and the bcrypt hashes of their passwords, from a file that may change at any time.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::ident;

/// The longest file of users.
const FILE_MAX: u64 = 8 << 20;
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a password that was right is not hashed again.
const KNOWN_LIFE: Duration = Duration::from_secs(300);
/// How many of those are kept.
const KNOWN_MAX: usize = 4096;
/// How many passwords are hashed at the same time: it is meant to be slow.
const AT_ONCE: usize = 2;
/// The work for a user that is not there, where the file has nobody to compare with.
const DUMMY: &str = "$2y$10$abcdefghijklmnopqrstuuSLB8NyIDHIBDh9RhMwW/3VsrZRYXmHa";

type Users = HashMap<String, String>;

#[derive(Debug)]
pub(crate) struct Htpasswd {
    path: PathBuf,
    state: Mutex<State>,
    /// What passwords that were right come to, with a key of this process: they are never kept.
    known: Mutex<HashMap<[u8; 32], Instant>>,
    key: [u8; 32],
    seats: Semaphore,
}

#[derive(Debug)]
struct State {
    users: Arc<Users>,
    stamp: Option<(SystemTime, u64)>,
    looked: Instant,
}

impl Htpasswd {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let stamp = stamp(path);
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(State {
                users: Arc::new(read(path)?),
                stamp,
                looked: Instant::now(),
            }),
            known: Mutex::default(),
            key: ident::random()?,
            seats: Semaphore::new(AT_ONCE),
        })
    }

    fn users(&self) -> Arc<Users> {
        let mut state = lock(&self.state);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let now = stamp(&self.path);
            if now != state.stamp {
                match read(&self.path) {
                    Ok(users) => {
                        state.users = Arc::new(users);
                        state.stamp = now;
                        lock(&self.known).clear();
                    }
                    Err(error) => {
                        tracing::error!(path = %self.path.display(), %error, "users go on as they were");
                    }
                }
            }
        }
        Arc::clone(&state.users)
    }

    /// Whether this is the user's password. It takes as long for a user that is not there.
    pub(crate) async fn verify(&self, user: &str, password: &str) -> bool {
        let users = self.users();
        let hash = users.get(user).cloned();
        let mark = self.mark(user, password, hash.as_deref().unwrap_or_default());
        if lock(&self.known)
            .get(&mark)
            .is_some_and(|at| at.elapsed() < KNOWN_LIFE)
        {
            return true;
        }
        let known_user = hash.is_some();
        let any = || users.values().next().cloned();
        let against = hash.or_else(any).unwrap_or_else(|| DUMMY.to_owned());
        let password = password.to_owned();
        let Ok(_seat) = self.seats.acquire().await else {
            return false;
        };
        let hashing = tokio::task::spawn_blocking(move || bcrypt::verify(password, &against));
        let right = matches!(hashing.await, Ok(Ok(true))) && known_user;
        if right {
            let mut known = lock(&self.known);
            if known.len() >= KNOWN_MAX {
                known.retain(|_, at| at.elapsed() < KNOWN_LIFE);
            }
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(mark, Instant::now());
        }
        right
    }

    fn mark(&self, user: &str, password: &str, hash: &str) -> [u8; 32] {
        let mut sum = Sha256::new();
        sum.update(self.key);
        for part in [user, password, hash] {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        sum.finalize().into()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

fn read(path: &Path) -> io::Result<Users> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_MAX).read_to_string(&mut text)?;
    let mut users = Users::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bcrypted = |hash: &str| {
            ["$2a$", "$2b$", "$2y$", "$2x$"]
                .iter()
                .any(|kind| hash.starts_with(kind))
        };
        match line.split_once(':') {
            Some((user, hash)) if !user.is_empty() && bcrypted(hash) => {
                users.insert(user.to_owned(), hash.to_owned());
            }
            _ => {
                tracing::warn!(path = %path.display(), line = at + 1, "no user with a bcrypt hash (htpasswd -B)");
            }
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line =
            |user: &str, password: &str| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(&path, line("ann", "secret") + "# nobody\nbob:plain\n").unwrap();
        let users = Htpasswd::open(&path).unwrap();
        assert!(users.verify("ann", "secret").await);
        assert!(users.verify("ann", "secret").await, "from memory");
        assert!(!users.verify("ann", "Secret").await);
        assert!(!users.verify("bob", "plain").await);
        assert!(!users.verify("eve", "secret").await);
        std::fs::write(&path, line("eve", "other one")).unwrap();
        users.state.lock().unwrap().looked = Instant::now() - LOOK_EVERY;
        assert!(!users.verify("ann", "secret").await);
        assert!(users.verify("eve", "other one").await);
        std::fs::remove_file(&path).unwrap();
        users.state.lock().unwrap().looked = Instant::now() - LOOK_EVERY;
        assert!(
            users.verify("eve", "other one").await,
            "all goes on as it was"
        );
    }

    #[test]
    fn the_dummy_is_a_hash() {
        assert!(!bcrypt::verify("x", DUMMY).unwrap());
    }
}
