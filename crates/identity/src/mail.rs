//! Mail: what is to be done by mail goes into a job, sealed, in the transaction that it tells of; a worker takes it from
//! there. Whoever asks waits neither for the mail server nor for anything that depends on whose address it is.

mod config;
pub(crate) mod letter;
mod smtp;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use manifold_bus::{Cause, Done, Draft, Failure, Job, Jobs, NewJob, Running, Worker};
use manifold_core::{Error, Result, TenantId, UserId};
use manifold_store::Tx;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use self::letter::Letter;
use self::smtp::Smtp;
use crate::Identity;
use crate::email::Email;
use crate::registration::Pending;
use crate::store::account;
use crate::store::one_time::{self, Promise};
use crate::vault::ring::Ring;

pub use self::config::{MailConfig, MailTls};

/// How long somebody is not told again of guesses.
const WARNED: Duration = Duration::from_secs(24 * 3_600);
const KIND: &str = "identity.mail";
/// Mails that are on their way at a time.
const SLOTS: usize = 8;
/// Tries of a mail: with pauses up to five minutes, about four hours.
const MAX_ATTEMPTS: i64 = 60;

/// Where mail is posted.
pub(crate) struct Post {
    jobs: Jobs,
    ring: Ring,
    server: Option<Server>,
}

/// The mail server, and where links lead.
struct Server {
    smtp: Smtp,
    public_url: String,
}

/// What is to be done by mail.
#[derive(Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Send this.
    Letter(Letter),
    /// Somebody registers.
    Register(Pending),
    /// Somebody forgot the password.
    Forgot(Email),
    /// Somebody guesses the password.
    Guessed(Email),
}

impl Errand {
    /// Whose mail it is.
    fn email(&self) -> Result<Email> {
        match self {
            Self::Letter(letter) => Email::parse(&letter.to),
            Self::Register(pending) => Ok(pending.email.clone()),
            Self::Forgot(email) | Self::Guessed(email) => Ok(email.clone()),
        }
    }
}

/// What becomes of an errand: all of it in one transaction, or nothing.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    /// Who is told of guesses, at most once a day.
    pub(crate) warned: Option<UserId>,
    pub(crate) promise: Option<Promise>,
    pub(crate) letter: Option<Letter>,
    pub(crate) event: Option<Draft>,
}

impl Answer {
    /// Nothing but a letter.
    pub(crate) fn say(letter: Letter) -> Self {
        Self { letter: Some(letter), ..Self::default() }
    }
}

impl Post {
    pub(crate) fn new(config: &MailConfig, public_url: &str, jobs: Jobs, ring: Ring) -> Result<Self> {
        let server = config.check(public_url)?;
        let server = server.map(|server| Smtp::new(&server).map(|smtp| Server { smtp, public_url: server.public_url }));
        Ok(Self { jobs, ring, server: server.transpose()? })
    }

    /// Where links in mails lead; None if there is no mail.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.server.as_ref().map(|server| server.public_url.as_str())
    }

    /// Posts an errand once the transaction is committed. Nothing happens without a mail server.
    pub(crate) async fn send(&self, tx: &mut Tx<'_>, tenant: TenantId, errand: &Errand) -> Result<()> {
        if self.server.is_none() {
            return Ok(());
        }
        let text = serde_json::to_vec(errand).map(Zeroizing::new);
        let text = text.map_err(|error| Error::internal("write an errand").because(error))?;
        let sealed = STANDARD_NO_PAD.encode(self.ring.seal(&text, context(tenant).as_bytes()));
        let job = NewJob {
            max_attempts: MAX_ATTEMPTS,
            ..NewJob::new(tenant, KIND, json!({ "of": mark(&errand.email()?.norm), "sealed": sealed }))
        };
        self.jobs.enqueue(tx, &job).await.map(|_| ())
    }

    /// Forgets all that was to be mailed to an address, or was mailed.
    pub(crate) async fn forget(&self, tx: &mut Tx<'_>, email_norm: &str) -> Result<()> {
        self.jobs.forget(tx, KIND, &mark(email_norm)).await
    }

    fn open(&self, tenant: TenantId, args: &Value) -> Option<Errand> {
        let sealed = STANDARD_NO_PAD.decode(args["sealed"].as_str()?).ok()?;
        serde_json::from_slice(self.ring.open(&sealed, context(tenant).as_bytes())?.expose()).ok()
    }
}

/// By what the errands of an address are found, though they are sealed.
fn mark(email_norm: &str) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(email_norm))
}

/// A sealed errand does not open for another tenant.
fn context(tenant: TenantId) -> String {
    format!("{KIND}|{tenant}")
}

/// Does what is posted until it is dropped.
pub(crate) async fn run(identity: Identity) {
    let (jobs, identity) = (identity.inner.post.jobs.clone(), Arc::new(identity));
    let worker = Worker { per_tenant: SLOTS as i64, ..Worker::new(KIND, SLOTS) };
    jobs.work(worker, move |running| {
        let identity = Arc::clone(&identity);
        async move { identity.do_errand(running).await }
    })
    .await;
}

impl Identity {
    async fn do_errand(&self, running: Running) -> Result<Done, Failure> {
        let (post, job) = (&self.inner.post, running.job().clone());
        // Without a mail server it waits for one.
        let waits = || Error::internal("there is no mail server");
        let server = post.server.as_ref().ok_or_else(waits)?;
        let unread = || Failure::Dead { reason: "MAIL_SEALED", source: Error::internal("an errand does not open") };
        let answer = match post.open(job.tenant, &job.args).ok_or_else(unread)? {
            Errand::Letter(letter) => {
                let over = letter.until.is_some_and(|until| until <= self.inner.clock.now().micros());
                if !over {
                    server.smtp.send(&letter, job.id).await?;
                }
                return running.finish(json!({ "sent": !over }), |_| Box::pin(async { Ok(()) })).await;
            }
            Errand::Register(pending) => self.answer_registration(&server.public_url, pending).await?,
            Errand::Forgot(email) => self.answer_forgotten(&server.public_url, &email).await?,
            Errand::Guessed(email) => self.answer_guessed(&server.public_url, &email).await?,
        };
        let work = Arc::new((self.clone(), answer, job));
        let given = running.finish(json!({}), move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { work.0.give(tx, &work.1, &work.2).await })
        });
        given.await
    }

    async fn give(&self, tx: &mut Tx<'_>, answer: &Answer, job: &Job) -> Result<()> {
        let now = self.inner.clock.now();
        if let Some(user) = answer.warned
            && !account::warn(tx, user, now.before(WARNED), now).await?
        {
            return Ok(());
        }
        if let Some(promise) = &answer.promise {
            one_time::insert(tx, promise).await?;
        }
        if let Some(letter) = &answer.letter {
            self.inner.post.send(tx, job.tenant, &Errand::Letter(letter.clone())).await?;
        }
        match &answer.event {
            Some(event) => {
                self.inner.outbox.append(tx, std::slice::from_ref(event), &Cause::Job(job).into()).await.map(|_| ())
            }
            None => Ok(()),
        }
    }
}
