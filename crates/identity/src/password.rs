//! Passwords: which are good enough, and their hashes (Argon2id, RFC 9106). Hashing takes a core for a tenth of a second, so
//! it has threads of its own at a lower priority and a short queue; whoever finds that full is told to return.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, zxcvbn};

use crate::email::Email;

/// Characters of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
/// Longest text that is looked at, in bytes.
const MAX_BYTES: usize = 1_024;
/// Hashes that may wait.
const QUEUE: usize = 32;
/// When to return if they do.
const RETURN: Duration = Duration::from_secs(2);
/// How much lower the priority of the threads is (nice).
const NICE: i32 = 10;
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
    queue: SyncSender<Work>,
    /// What the password of nobody is compared with, so that it takes the same time.
    nobody: String,
}

impl Hasher {
    /// Starts half as many threads as there are cores, at least one.
    pub fn start() -> Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let (memory, passes, lanes) = COST;
        let params = Params::new(memory, passes, lanes, None);
        let argon = Argon2::from(params.map_err(|error| Error::internal("parameters of Argon2").because(error))?);
        let work = Arc::new(Mutex::new(work));
        for _ in 0..available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2) {
            let (argon, work) = (argon.clone(), Arc::clone(&work));
            let thread = thread::Builder::new().name("password".to_owned()).spawn(move || run(&argon, &work));
            thread.or_err(Code::Internal, "start a thread")?;
        }
        // A salt and a hash that no password has.
        let nobody = format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", "A".repeat(22), "A".repeat(43));
        Ok(Self { queue, nobody })
    }

    /// The hash of a new password, with its salt and cost (PHC string format).
    pub async fn hash(&self, password: Secret<String>) -> Result<String> {
        let hash =
            self.run(move |argon| argon.hash_password(password.expose().as_bytes()).map(|hash| hash.to_string()));
        hash.await?.map_err(|error| Error::internal("hash a password").because(error))
    }

    /// Whether the password has this hash; None = there is none, which takes the same time.
    pub async fn verify(&self, password: Secret<String>, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let same = self.run(move |argon| {
            let hash = PasswordHash::new(&hash)?;
            argon.verify_password(password.expose().as_bytes(), &hash)
        });
        match same.await? {
            Ok(()) => Ok(known),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(Error::internal("compare a password").because(error)),
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let queued = self.queue.try_send(Box::new(move |argon| drop(tell.send(work(argon)))));
        queued.map_err(|_| {
            let message = "too many people are logging in at this moment";
            Error::new(Code::Unavailable, "TEMPORARY_REDUCED_CAPACITY", message).retry_after(RETURN)
        })?;
        told.await.or_err(Code::Internal, "hash a password")
    }
}

/// Works until nobody can ask any more.
fn run(argon: &Argon2<'static>, work: &Mutex<Receiver<Work>>) {
    // On Linux it is the priority of this thread alone. Where that is not allowed, it keeps its own.
    let _ = rustix::process::nice(NICE);
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
        for weak in ["password1", "manifold1", "my-grace.hopper-secret", "aaaaaaaaaaaa", "qwertyuiop"] {
            let error = check_strength(&secret(weak), &email, "Grace").unwrap_err();
            assert_eq!((error.reason(), error.param()), ("PASSWORD_WEAK", Some("password")), "{weak}");
        }
        assert!(check_strength(&secret("correct horse battery staple"), &email, "Grace").is_ok());
    }

    #[tokio::test]
    async fn a_hash_proves_its_password_and_nobody_has_one() {
        let hasher = Hasher::start().unwrap();
        let hash = hasher.hash(secret("correct horse")).await.unwrap();

        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify(secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify(secret("correct house"), Some(hash)).await.unwrap());
        assert!(!hasher.verify(secret("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        let hasher = Hasher::start().unwrap();
        let many = (0..QUEUE + 64).map(|_| hasher.hash(secret("correct horse")));

        let outcomes = futures::future::join_all(many).await;

        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(!refused.is_empty() && refused.len() < outcomes.len());
        assert!(
            refused.iter().all(|error| error.reason() == "TEMPORARY_REDUCED_CAPACITY" && error.delay() == Some(RETURN))
        );
    }
}
