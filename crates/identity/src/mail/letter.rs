//! What mails say. Pure. Nothing that a stranger can choose stands in them, or they could be used to write to anybody; links
//! lead to the public address and carry their token behind `#`, which browsers send to nobody.

use manifold_core::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::email::Email;

/// A mail to be sent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Letter {
    /// Address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// Microseconds; it is of no use any more after that.
    pub until: Option<i64>,
}

/// The way of somebody who was invited.
pub fn invitation(public_url: &str, to: &Email, token: &Secret<String>, until: Timestamp) -> Letter {
    let text = format!(
        "You are invited to join a team at {public_url}.\n\n\
         To accept, follow this link. It works once, until {until}:\n\n{}\n\n\
         If you do not know what this is about, do nothing.\n",
        link(public_url, "register", token)
    );
    Letter { subject: "You are invited".to_owned(), until: Some(until.micros()), ..to_person(to, text) }
}

/// How somebody who registers proves the address.
pub fn registration(public_url: &str, to: &Email, token: &Secret<String>, until: Timestamp) -> Letter {
    let text = format!(
        "Somebody, most likely you, registers this address at {public_url}.\n\n\
         To finish, follow this link and choose a password. It works once, until {until}:\n\n{}\n\n\
         If it was not you, do nothing: without the link there is no account.\n",
        link(public_url, "verify-email", token)
    );
    Letter { subject: "Finish your registration".to_owned(), until: Some(until.micros()), ..to_person(to, text) }
}

/// What somebody who registers again is told.
pub fn registered_already(public_url: &str, to: &Email) -> Letter {
    let text = format!(
        "Somebody, most likely you, tried to register this address at {public_url}. It has an account already.\n\n\
         To log in, or to choose a new password if you forgot it, go to {public_url}/login.\n\n\
         If it was not you, do nothing: nothing has changed.\n"
    );
    Letter { subject: "You have an account already".to_owned(), ..to_person(to, text) }
}

/// How somebody who forgot the password chooses another one.
pub fn reset(public_url: &str, to: &Email, token: &Secret<String>, until: Timestamp) -> Letter {
    let text = format!(
        "Somebody, most likely you, forgot the password of this address at {public_url}.\n\n\
         To choose a new one, follow this link. It works once, until {until}:\n\n{}\n\n\
         If it was not you, do nothing: the old password goes on.\n",
        link(public_url, "reset", token)
    );
    Letter { subject: "Choose a new password".to_owned(), until: Some(until.micros()), ..to_person(to, text) }
}

/// How somebody proves another address of the account.
pub fn proof(public_url: &str, to: &Email, token: &Secret<String>, until: Timestamp) -> Letter {
    let text = format!(
        "Somebody, most likely you, wants this to be the address of an account at {public_url}.\n\n\
         To make it so, follow this link. It works once, until {until}:\n\n{}\n\n\
         If it was not you, do nothing.\n",
        link(public_url, "verify-email", token)
    );
    Letter { subject: "Prove your address".to_owned(), until: Some(until.micros()), ..to_person(to, text) }
}

/// What both addresses are told when one takes the place of the other.
pub fn moved(public_url: &str, to: &Email, old: &Email, new: &Email) -> Letter {
    let text = format!(
        "Your account at {public_url} has another address: it was {} and is {} now.\n\n\
         If it was not you, write to who runs {public_url}: somebody knows your password.\n",
        old.typed, new.typed
    );
    Letter { subject: "Your address was changed".to_owned(), ..to_person(to, text) }
}

/// What somebody is told whose password was changed.
pub fn password_changed(public_url: &str, to: &Email, at: Timestamp) -> Letter {
    let text = format!(
        "The password of your account at {public_url} was changed at {at}. Earlier sessions have ended.\n\n\
         If it was not you, choose another one at {public_url}/login.\n"
    );
    Letter { subject: "Your password was changed".to_owned(), ..to_person(to, text) }
}

/// What somebody is told who has a second factor from now on.
pub fn factor_added(public_url: &str, to: &Email, at: Timestamp) -> Letter {
    let text = format!(
        "Your account at {public_url} asks for a code of an app beside the password since {at}. Earlier sessions have ended.\n\n\
         If it was not you, write to who runs {public_url}: somebody knows your password.\n"
    );
    Letter { subject: "A second factor was added".to_owned(), ..to_person(to, text) }
}

/// What somebody is told who has no second factor any more.
pub fn factor_removed(public_url: &str, to: &Email, at: Timestamp) -> Letter {
    let text = format!(
        "Your account at {public_url} asks for nothing beside the password since {at}: its second factor was removed.\n\n\
         If it was not you, choose another password at {public_url}/login, and add a factor again.\n"
    );
    Letter { subject: "Your second factor was removed".to_owned(), ..to_person(to, text) }
}

/// What somebody is told whose recovery code was used.
pub fn recovery_code_used(public_url: &str, to: &Email, at: Timestamp) -> Letter {
    let text = format!(
        "A recovery code of your account at {public_url} was used at {at}, in place of the app. It works no more.\n\n\
         If it was not you, choose another password at {public_url}/login: that ends all sessions. Then make new codes.\n"
    );
    Letter { subject: "A recovery code was used".to_owned(), ..to_person(to, text) }
}

/// What somebody is told who logs in from elsewhere.
pub fn new_place(public_url: &str, to: &Email, ip: &str, at: Timestamp) -> Letter {
    let text = format!(
        "Somebody, most likely you, logged in to your account at {public_url} from {ip} at {at}, a network that was not \
         seen with it of late.\n\n\
         If it was not you, choose another password at {public_url}/login: that ends all sessions.\n"
    );
    Letter { subject: "A login from a new place".to_owned(), ..to_person(to, text) }
}

/// What somebody is told whose password is guessed at.
pub fn guesses(public_url: &str, to: &Email) -> Letter {
    let text = format!(
        "Somebody tries to log in to your account at {public_url} with wrong passwords. Nobody got in by them, and each try \
         has to wait longer.\n\n\
         If it was you and you forgot the password, choose another one at {public_url}/login. You are told this once a day \
         at most.\n"
    );
    Letter { subject: "Somebody guesses your password".to_owned(), ..to_person(to, text) }
}

fn to_person(to: &Email, text: String) -> Letter {
    // The domain as ASCII: not every mail server takes another one.
    let domain = to.norm.rsplit_once('@').map_or("", |(_, domain)| domain);
    let local = to.typed.rsplit_once('@').map_or("", |(local, _)| local);
    Letter { to: format!("{local}@{domain}"), subject: String::new(), text, until: None }
}

fn link(public_url: &str, page: &str, token: &Secret<String>) -> String {
    format!("{public_url}/{page}#{}", token.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_public_address_with_its_token_behind_the_hash() {
        let to = Email::parse("Grace@Bücher.example").unwrap();

        let letter = invitation("https://api.example", &to, &Secret::from("mfi_x"), Timestamp::from_micros(0));

        assert_eq!(letter.to, "Grace@xn--bcher-kva.example");
        assert!(letter.text.contains("\nhttps://api.example/register#mfi_x\n"), "{}", letter.text);
    }
}
