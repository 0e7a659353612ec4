//! What people are told by mail of what happens to their accounts. Nothing happens without a mail server.

use std::net::IpAddr;
use std::time::Duration;

use manifold_core::{Result, Timestamp, UserId};
use manifold_store::Tx;

use crate::Identity;
use crate::account::nobodys;
use crate::email::Email;
use crate::mail::letter::{self, Letter};
use crate::mail::{Answer, Errand};
use crate::session::Visitor;
use crate::store::account::{self, Place};
use crate::store::user::{self, Account};

/// How long it is known from where people came.
pub(crate) const PLACES: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long an account has just been made.
const YOUNG: Duration = Duration::from_secs(24 * 3_600);

impl Identity {
    /// Tells a person that the password was changed.
    pub(crate) async fn tell_password_changed(&self, tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
        self.tell(tx, user, |url, to| letter::password_changed(url, to, at)).await
    }

    /// Tells a person that a login asks for a second factor from now on, or for another one.
    pub(crate) async fn tell_factor_added(&self, tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
        self.tell(tx, user, |url, to| letter::factor_added(url, to, at)).await
    }

    /// Tells a person that a login asks for no second factor any more.
    pub(crate) async fn tell_factor_removed(&self, tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
        self.tell(tx, user, |url, to| letter::factor_removed(url, to, at)).await
    }

    /// Tells a person that a recovery code was used.
    pub(crate) async fn tell_recovery_code_used(&self, tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
        self.tell(tx, user, |url, to| letter::recovery_code_used(url, to, at)).await
    }

    /// Notes from where a person logs in, and tells of it if it is from elsewhere.
    pub(crate) async fn note_place(
        &self,
        tx: &mut Tx<'_>,
        account: &Account,
        visitor: &Visitor,
        at: Timestamp,
    ) -> Result<()> {
        let (user, ip) = (UserId(account.id), visitor.ip.to_canonical());
        let news = match account::note_place(tx, user, &place(ip), at.before(PLACES), at).await? {
            Place::Known => false,
            Place::New => true,
            // The first login of somebody who has just got an account is no news; that of a sleeping one is.
            Place::First => at.since(account.created_at) >= YOUNG,
        };
        if !news {
            return Ok(());
        }
        let ip = ip.to_string();
        self.tell(tx, user, |url, to| letter::new_place(url, to, &ip, at)).await
    }

    /// What becomes of guesses at a password: whose it is is told, once a day at most.
    pub(crate) async fn answer_guessed(&self, public_url: &str, email: &Email) -> Result<Answer> {
        let Some(account) = user::find_by_email(&self.inner.db, &email.norm).await? else {
            return Ok(Answer::default());
        };
        let letter = letter::guesses(public_url, &Email::parse(&account.email)?);
        Ok(Answer { warned: Some(UserId(account.id)), ..Answer::say(letter) })
    }

    async fn tell(&self, tx: &mut Tx<'_>, user: UserId, write: impl Fn(&str, &Email) -> Letter) -> Result<()> {
        let Some(url) = self.inner.post.public_url() else { return Ok(()) };
        let Some(email) = account::email(tx, user).await? else { return Ok(()) };
        let letter = write(url, &email);
        self.inner.post.send(tx, nobodys(), &Errand::Letter(letter)).await
    }
}

/// What people call one place: /16 of IPv4, /32 of IPv6.
fn place(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            format!("{a}.{b}.0.0/16")
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            format!("{a:x}:{b:x}::/32")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_wider_than_a_network() {
        for (ip, expected) in [("203.0.113.77", "203.0.0.0/16"), ("2001:db8:7:1::5", "2001:db8::/32")] {
            assert_eq!(place(ip.parse().unwrap()), expected);
        }
    }
}
