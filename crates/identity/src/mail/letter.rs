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
