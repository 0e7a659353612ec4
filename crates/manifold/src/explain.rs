//! What went wrong, in words for whoever started the program.

use std::collections::BTreeMap;

use manifold_core::Error;
use manifold_runtime::config::Setting;

/// What happened, with its cause where the cause tells the operator something.
pub fn explain(error: &Error) -> String {
    let chain = error.chain();
    chain.strip_prefix(error.reason()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&chain).to_owned()
}

/// Says of a refused setting which one it is and who set it, as is said of those that cannot even be read.
pub fn located(error: Error, settings: &BTreeMap<String, Setting>) -> Error {
    let key = error.param().unwrap_or_default().replace('-', "_");
    let Some(setting) = settings.get(&key) else {
        return error;
    };
    let said = explain(&error);
    let said = said.strip_prefix(&key).unwrap_or(&said).trim_start_matches([':', ' ']);
    Error::new(error.code(), error.reason().to_owned(), format!("{key} ({}): {said}", setting.origin)).at(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BTreeMap<String, Setting> {
        let setting =
            Setting { value: "***".to_owned(), origin: "environment variable MANIFOLD_MESH__AI_ROUTER".to_owned() };
        BTreeMap::from([("mesh.ai_router".to_owned(), setting)])
    }

    #[test]
    fn a_refused_setting_is_named_once_with_its_source() {
        for message in ["is no address", "mesh.ai_router is no address", "mesh.ai_router: is no address"] {
            let error = located(Error::invalid("CONFIG_INVALID", message).at("mesh.ai-router"), &settings());

            assert_eq!(
                error.message(),
                "mesh.ai_router (environment variable MANIFOLD_MESH__AI_ROUTER): is no address"
            );
        }
    }

    #[test]
    fn what_nobody_set_is_told_as_it_is() {
        let error = located(Error::invalid("CONFIG_INVALID", "mesh.secret must be set").at("mesh.secret"), &settings());

        assert_eq!(explain(&error), "mesh.secret must be set");
    }
}
