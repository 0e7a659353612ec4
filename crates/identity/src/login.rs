//! Logging in: a password becomes a session. Whoever guesses is slowed down, and learns neither by the answer nor by its time
//! whether an account exists.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifold_bus::Draft;
use manifold_core::{Code, Error, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::account::nobodys;
use crate::audit::Outbox;
use crate::email::Email;
use crate::mail::Errand;
use crate::member::{OneTime, wrong_token};
use crate::network::Network;
use crate::origin::Origin;
use crate::password::Seat;
use crate::session::{Entered, Visitor};
use crate::store::attempt::{self, Tried};
use crate::store::one_time::{self, Promise};
use crate::store::user::{self as store, Account};
use crate::store::{factor, session as sessions};
use crate::{Identity, password, session, tenant};

/// Tries of one account from one network in an hour without a pause.
const FREE: i64 = 5;
/// Tries of one account from anywhere: more than one network can make in an hour, or anybody could lock anybody out.
const FREE_OF_ACCOUNT: i64 = 100;
/// Tries from one network: more people than one may be behind it.
const FREE_OF_NETWORK: i64 = 20;

/// Mails to one address that people may ask for in an hour without a pause.
const FREE_OF_MAILBOX: i64 = 10;
/// Failures on one account in an hour of which its owner is told.
const GUESSES: i64 = 10;
/// How long a ticket works.
const TICKET: Duration = Duration::from_secs(5 * 60);

/// What a right password leads to.
#[derive(Debug)]
pub enum Login {
    /// Somebody has logged in.
    Done(Box<Entered>),
    /// There is a second factor: this works once, together with its code.
    Ticket(OneTime),
}

/// Who knew the password, and what else was given.
struct Proven {
    account: Account,
    tries: Arc<Tries>,
    code: Option<Secret<String>>,
    /// Hash of the ticket, if the password was proven before.
    ticket: Option<Vec<u8>>,
}

/// Who tries: the account, the network, and both together.
pub(crate) struct Tries {
    account: String,
    network: String,
    both: String,
    free_of_account: i64,
}

impl Tries {
    fn of(email: &Email, ip: IpAddr) -> Self {
        let network = Network::of(ip).to_string();
        let account = URL_SAFE_NO_PAD.encode(&Sha256::digest(&email.norm)[..16]);
        Self { both: format!("{account} {network}"), account, network, free_of_account: FREE_OF_ACCOUNT }
    }

    /// Of who asks for mail to this address: counted apart from logins.
    pub(crate) fn of_mail(email: &Email, ip: IpAddr) -> Self {
        let Self { account, network, both, .. } = Self::of(email, ip);
        let [account, network, both] = [account, network, both].map(|subject| format!("mail {subject}"));
        Self { account, network, both, free_of_account: FREE_OF_MAILBOX }
    }

    /// Counts this one: how many of the account. `TOO_MANY_ATTEMPTS` if it comes too early.
    pub(crate) async fn begin(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<i64> {
        let mut n_of_account = 0;
        // Always in the same order, so that no two wait for each other.
        let subjects = [(&self.account, self.free_of_account), (&self.network, FREE_OF_NETWORK), (&self.both, FREE)];
        for (subject, free) in subjects {
            match attempt::begin(tx, subject, free, now).await? {
                Tried::Counted(n) if *subject == self.account => n_of_account = n,
                Tried::Counted(_) => {}
                Tried::Early(until) => {
                    let wait = until.since(now).max(Duration::from_secs(1));
                    let message = "too many tries; wait before the next one";
                    return Err(Error::new(Code::Exhausted, "TOO_MANY_ATTEMPTS", message).retry_after(wait));
                }
            }
        }
        Ok(n_of_account)
    }

    /// It was the right person.
    pub(crate) async fn succeeded(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        attempt::forget(tx, &self.account).await?;
        attempt::take_back(tx, &self.network, now).await?;
        attempt::forget(tx, &self.both).await
    }
}

impl Identity {
    /// A session for the owner of this address and password; for who has a second factor and gives no code, a ticket for
    /// [`Identity::log_in_with_code`].
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS` for whatever does not fit; `CODE_INVALID`; `TOO_MANY_ATTEMPTS` with the time to wait;
    /// `SETUP_REQUIRED` while nobody has an account; `TEMPORARY_REDUCED_CAPACITY` while too many log in at once.
    pub async fn log_in(
        &self,
        call: &CallContext,
        visitor: Visitor,
        email: &str,
        typed: Secret<String>,
        code: Option<Secret<String>>,
    ) -> Result<Login> {
        self.require_setup().await?;
        let email = Email::parse(email)?;
        let seat = self.inner.hasher.seat().inspect_err(|_| count("busy"))?;
        let account = store::find_by_email(&self.inner.db, &email.norm).await?;
        let proven = self.prove(&seat, account.as_ref(), &email, visitor.ip, typed).await;
        count(if proven.is_ok() { "ok" } else { "refused" });
        let tries = proven?;
        let account = account.ok_or_else(refused)?;
        let user = UserId(account.id);
        match &code {
            None if factor::find_confirmed(&self.inner.db, user).await?.is_some() => {
                self.make_ticket(user, account.generation).await.map(Login::Ticket)
            }
            _ => self.enter(call, visitor, Proven { account, tries, code, ticket: None }).await.map(Login::Done),
        }
    }

    /// A session for who knew the password and has the code.
    ///
    /// # Errors
    /// `TOKEN_INVALID` if the ticket was used, is over or was made before a new password; `CODE_INVALID`, `TOO_MANY_ATTEMPTS`.
    pub async fn log_in_with_code(
        &self,
        call: &CallContext,
        visitor: Visitor,
        ticket: &Secret<String>,
        code: Secret<String>,
    ) -> Result<Box<Entered>> {
        let (hash, now) = (session::hash(ticket.expose()), self.inner.clock.now());
        let made = one_time::find(&self.inner.db, one_time::TICKET, &hash, now).await?.ok_or_else(wrong_token)?;
        let (user, generation) = made.user().zip(made.data["generation"].as_i64()).ok_or_else(wrong_token)?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        if account.generation != generation || factor::find_confirmed(&self.inner.db, user).await?.is_none() {
            return Err(wrong_token());
        }
        let tries = self.begin_try(&Email::parse(&account.email)?, visitor.ip).await?;
        self.enter(call, visitor, Proven { account, tries, code: Some(code), ticket: Some(hash) }).await
    }

    async fn make_ticket(&self, user: UserId, generation: i64) -> Result<OneTime> {
        let token = session::one_time("mft");
        let (hash, expires_at) = (session::hash(token.expose()), self.inner.clock.now().after(TICKET));
        let data = json!({ "generation": generation });
        let promise = Promise { purpose: one_time::TICKET, hash, user: Some(user), data, until: expires_at };
        let made = self.inner.db.write("make a ticket", move |tx| {
            let promise = promise.clone();
            Box::pin(async move {
                // The password may have changed while it was compared.
                if !store::hold(tx, user, generation).await? {
                    return Err(refused());
                }
                one_time::insert(tx, &promise).await
            })
        });
        made.await?;
        Ok(OneTime { token, expires_at })
    }

    /// Counts a try to log in.
    async fn begin_try(&self, email: &Email, ip: IpAddr) -> Result<Arc<Tries>> {
        let (tries, now) = (Arc::new(Tries::of(email, ip)), self.inner.clock.now());
        let work = Arc::new((self.clone(), Arc::clone(&tries), Errand::Guessed(email.clone())));
        let begun = self.inner.db.write("begin to log in", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, tries, guessed) = &*work;
                // Posted whether there is an account or not, so that the answer takes the same time.
                if tries.begin(tx, now).await? == GUESSES + 1 {
                    identity.inner.post.send(tx, nobodys(), guessed).await?;
                }
                Ok(())
            })
        });
        begun.await?;
        Ok(tries)
    }

    /// Fails unless the password is that of the account. Every try counts; see [`Tries::succeeded`].
    pub(crate) async fn prove(
        &self,
        seat: &Seat,
        account: Option<&Account>,
        email: &Email,
        ip: IpAddr,
        typed: Secret<String>,
    ) -> Result<Arc<Tries>> {
        let begun = self.begin_try(email, ip).await.inspect_err(|error| {
            if error.reason() == "TOO_MANY_ATTEMPTS" {
                self.note_failed_login(account.map(|account| UserId(account.id)), &Tries::of(email, ip).account, ip);
            }
        });
        let tries = begun?;
        let hash = account.and_then(|account| account.phc.clone());
        // What no password can be is compared, too: with nobody's.
        let (password, hash) = match password::read(&typed) {
            Ok(password) => (password, hash),
            Err(_) => (Secret::from("not a password"), None),
        };
        if self.inner.hasher.verify(seat, password, hash).await? {
            return Ok(tries);
        }
        self.note_failed_login(account.map(|account| UserId(account.id)), &tries.account, ip);
        Err(refused())
    }

    /// Opens a session for a person who has proven to be one, if the code fits, too.
    async fn enter(&self, call: &CallContext, visitor: Visitor, proven: Proven) -> Result<Box<Entered>> {
        let Proven { account, tries, code, ticket } = proven;
        let user = UserId(account.id);
        let tenant = match store::home(&self.inner.db, user).await? {
            Some(tenant) => tenant,
            None if store::is_member(&self.inner.db, user).await? => return Err(tenant::suspended()),
            None => return Err(refused()),
        };
        let second = self.second(call, tenant, user, code.as_ref()).await?;
        let now = self.inner.clock.now();
        let (new, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let new = sessions::NewSession { mfa: second.kind().is_some(), ..new };
        let data = json!({ "session": new.id.to_string(), "second_factor": second.kind() });
        let event = event("identity.login.succeeded", tenant, user, &data);
        let noted = Arc::clone(&tries);
        let generation = account.generation;
        let (whose, from) = (account.clone(), visitor.clone());
        let work = (self.clone(), new.clone(), event, Origin::of(call), tries, second, ticket, (whose, from));
        let work = Arc::new(work);
        let written = self.inner.db.write("log in", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, new, event, origin, tries, second, ticket, (account, visitor)) = &*work;
                // The password may have changed while it was compared.
                if !store::hold(tx, user, generation).await? {
                    return Err(refused());
                }
                if let Err(refused) = second.settle(tx, new.at).await? {
                    return Ok(Err(refused));
                }
                if let Some(ticket) = ticket
                    && !(new.mfa && one_time::use_up(tx, one_time::TICKET, ticket, new.at).await?)
                {
                    return Err(wrong_token());
                }
                tries.succeeded(tx, new.at).await?;
                identity.note_place(tx, account, visitor, new.at).await?;
                open(tx, new, event, &identity.inner.outbox, origin).await.map(Ok)
            })
        });
        if let Err(refused) = written.await? {
            self.note_failed_login(Some(user), &noted.account, visitor.ip);
            return Err(refused);
        }
        self.entered(new, token, account).await.map(Box::new)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("manifold_logins_total", "outcome" => outcome).increment(1);
}

/// Inserts a session, and tells of it.
pub(crate) async fn open(
    tx: &mut Tx<'_>,
    new: &sessions::NewSession,
    event: &Draft,
    outbox: &Outbox,
    origin: &Origin,
) -> Result<()> {
    sessions::insert(tx, new).await?;
    outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
}

/// An event about a person.
pub(crate) fn event(type_: &'static str, tenant: TenantId, user: UserId, data: &serde_json::Value) -> Draft {
    Draft { type_, subject: user.to_string(), tenant, data: data.to_string().into() }
}

pub(crate) fn refused() -> Error {
    Error::new(Code::Unauthenticated, "INVALID_CREDENTIALS", "there is no account with this address and password")
}
