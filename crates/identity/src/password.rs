//! Passwords: which are good enough, and their hashes (Argon2id, RFC 9106). Hashing takes a core for some hundredths of a second,
//! so it has threads of its own, which work while nobody else wants the core, and few seats; whoever finds none is told to
//! return.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, zxcvbn};

use crate::email::Email;
use crate::random;

/// Characters of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
/// Longest text that is looked at, in bytes.
const MAX_BYTES: usize = 1_024;
/// Hashes that may wait.
const QUEUE: usize = 32;
/// Seconds after which to return if they do: not everybody after the same ones.
const RETURN: std::ops::Range<u8> = 2..6;
/// Memory in KiB, passes, lanes: the least that OWASP's password storage cheat sheet names.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// The password as it is hashed: the same whichever way its letters were typed (NFC).
///
/// # Errors
/// `PASSWORD_INVALID` if it is too short or too long.
pub fn read(typed: &Secret<String>) -> Result<Secret<String>> {
    let typed = typed.expose();
    let password: Option<Secret<String>> = (typed.len() <= MAX_BYTES).then(|| Secret::new(typed.nfc().collect()));
    password.filter(|password| LENGTH.contains(&password.expose().chars().count())).ok_or_else(|| {
        let message = format!("a password has {} to {} characters", LENGTH.start(), LENGTH.end());
        Error::invalid("PASSWORD_INVALID", message).at("password")
    })
}

/// Refuses a new password that is easily guessed, by everybody or by who knows its owner.
///
/// # Errors
/// `PASSWORD_WEAK`.
pub fn check_strength(password: &Secret<String>, email: &Email, name: &str) -> Result<()> {
    let (text, local) = (password.expose().to_lowercase(), email.local());
    let weak = if local.len() >= 4 && text.contains(local) {
        Some("it contains the e-mail address")
    } else if zxcvbn(password.expose(), &[&email.norm, local, name, "manifold"]).score() < Score::Three {
        Some("it is easily guessed; a few words that do not belong together make a good one")
    } else {
        None
    };
    match weak {
        Some(why) => Err(Error::invalid("PASSWORD_WEAK", format!("this password is too weak: {why}")).at("password")),
        None => Ok(()),
    }
}

type Work = Box<dyn FnOnce(&Argon2<'static>) + Send>;

/// Hashes passwords and compares them.
pub struct Hasher {
    queue: Sender<Work>,
    seats: Arc<Semaphore>,
    /// What the password of nobody is compared with, so that it takes the same time.
    nobody: String,
}

/// Leave to have hashes made, one after the other. It is taken before anything else is done for who wants one, so that a crowd
/// costs the store nothing, and goes with the last hash that is made by it.
#[derive(Clone)]
pub struct Seat(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl Hasher {
    /// Starts half as many threads as there are cores, at least one.
    pub fn start() -> Result<Self> {
        let (queue, work) = channel();
        let (memory, passes, lanes) = COST;
        let params = Params::new(memory, passes, lanes, None);
        let argon = Argon2::from(params.map_err(|error| Error::internal("parameters of Argon2").because(error))?);
        let work = Arc::new(Mutex::new(work));
        let threads = available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2);
        for _ in 0..threads {
            let (argon, work) = (argon.clone(), Arc::clone(&work));
            let thread = thread::Builder::new().name("password".to_owned()).spawn(move || run(&argon, &work));
            thread.or_err(Code::Internal, "start a thread")?;
        }
        // A salt and a hash that no password has.
        let nobody = format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", "A".repeat(22), "A".repeat(43));
        Ok(Self { queue, seats: Arc::new(Semaphore::new(threads + QUEUE)), nobody })
    }

    /// A seat, if there is one.
    ///
    /// # Errors
    /// `TEMPORARY_REDUCED_CAPACITY` with the time to wait.
    pub fn seat(&self) -> Result<Seat> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().map_err(|_| {
            let [chance] = random::bytes();
            let wait = RETURN.start + chance % (RETURN.end - RETURN.start);
            let message = "too many people are logging in at this moment";
            let error = Error::new(Code::Unavailable, "TEMPORARY_REDUCED_CAPACITY", message);
            error.retry_after(Duration::from_secs(wait.into()))
        })?;
        Ok(Seat(Arc::new(seat)))
    }

    /// The hash of a new password, with its salt and cost (PHC string format).
    pub async fn hash(&self, seat: &Seat, password: Secret<String>) -> Result<String> {
        let hash =
            self.run(seat, move |argon| argon.hash_password(password.expose().as_bytes()).map(|hash| hash.to_string()));
        hash.await?.map_err(|error| Error::internal("hash a password").because(error))
    }

    /// Whether the password has this hash; None = there is none, which takes the same time.
    pub async fn verify(&self, seat: &Seat, password: Secret<String>, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let same = self.run(seat, move |argon| {
            let hash = PasswordHash::new(&hash)?;
            argon.verify_password(password.expose().as_bytes(), &hash)
        });
        match same.await? {
            Ok(()) => Ok(known),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(Error::internal("compare a password").because(error)),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        seat: &Seat,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        // Whoever asked may be gone before it is made.
        let seat = seat.clone();
        let work = move |argon: &Argon2<'static>| {
            drop(tell.send(work(argon)));
            drop(seat);
        };
        // If nobody works any more, `told` says so.
        let _ = self.queue.send(Box::new(work));
        told.await.or_err(Code::Internal, "hash a password")
    }
}

/// Works until nobody can ask any more.
fn run(argon: &Argon2<'static>, work: &Mutex<Receiver<Work>>) {
    // Of this thread alone, and everybody may lower it (sched(7), SCHED_IDLE). A lower nice value is not enough: a thread that
    // wakes up for a request would still wait for the end of a time slice.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let thread = thread_priority::thread_native_id();
    if let Err(error) = thread_priority::set_thread_priority_and_policy(thread, ThreadPriority::Min, idle) {
        tracing::warn!(%error, "hashing passwords does not step back behind other work");
    }
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(argon),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::from(text)
    }

    #[test]
    fn length_counts_characters_and_letters_are_the_same_however_typed() {
        let (composed, apart) = ("p\u{e9}-and-more", "pe\u{301}-and-more");

        assert_eq!(read(&secret(composed)).unwrap().expose(), read(&secret(apart)).unwrap().expose());
        for (text, good) in
            [("1234567", false), ("12345678", true), (&"é".repeat(128), true), (&"é".repeat(129), false)]
        {
            assert_eq!(read(&secret(text)).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn what_is_easily_guessed_is_refused() {
        let email = Email::parse("grace.hopper@example.org").unwrap();
        let common = ["password", "12345678", "iloveyou", "trustno1", "1qaz2wsx", "baseball", "Football", "P@ssw0rd"];
        let own = ["manifold1", "my-grace.hopper-secret", "gracehopper1", "password1", "aaaaaaaaaaaa", "qwertyuiop"];
        for weak in common.into_iter().chain(own) {
            let error = check_strength(&secret(weak), &email, "Grace").unwrap_err();
            assert_eq!((error.reason(), error.param()), ("PASSWORD_WEAK", Some("password")), "{weak}");
        }
        for good in ["correct horse battery staple", "zzvqgwmtkxbrjdph", "ΩЖ漢 字🦆 ќџ ਹ"] {
            assert!(check_strength(&secret(good), &email, "Grace").is_ok(), "letters of any one kind will do: {good}");
        }
    }

    #[tokio::test]
    async fn a_hash_proves_its_password_and_nobody_has_one() {
        let hasher = Hasher::start().unwrap();
        let seat = hasher.seat().unwrap();
        let hash = hasher.hash(&seat, secret("correct horse")).await.unwrap();

        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        for (password, hash, same) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct house", Some(hash), false),
            ("correct horse", None, false),
        ] {
            assert_eq!(hasher.verify(&seat, secret(password), hash).await.unwrap(), same, "{password}");
        }
    }

    #[tokio::test]
    async fn who_finds_no_seat_is_told_at_once_and_seats_come_back_with_the_hash() {
        let hasher = Hasher::start().unwrap();
        let mut seats: Vec<_> = std::iter::from_fn(|| hasher.seat().ok()).collect();
        assert!(seats.len() > QUEUE);

        let waits: Vec<_> = (0..64).map(|_| hasher.seat().err().unwrap()).collect();
        let last = seats.pop().unwrap();
        // Whoever asked goes away, and the hash is made nevertheless.
        let asked = tokio::time::timeout(Duration::ZERO, hasher.hash(&last, secret("correct horse"))).await;
        drop(last);

        assert!(waits.iter().all(|error| error.reason() == "TEMPORARY_REDUCED_CAPACITY"));
        let seconds: BTreeSet<_> = waits.iter().map(|error| error.delay().unwrap().as_secs()).collect();
        assert!(seconds.len() > 1 && seconds.iter().all(|wait| (2..6).contains(wait)), "{seconds:?}");
        assert!(asked.is_err() && hasher.seat().is_err(), "it is still being made");
        while hasher.seat().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_threads_work_while_nobody_else_wants_the_core() {
        let hasher = Hasher::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seat = hasher.seat().unwrap();
        let policy = runtime.block_on(hasher.run(&seat, |_| thread_priority::thread_schedule_policy()));

        assert_eq!(policy.unwrap().unwrap(), ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
    }
}
