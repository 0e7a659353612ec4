//! Two processes and strangers: only who knows the mesh secret says who calls.

use anyhow::Result;
use manifold_contract::ai::v1::inference_client::InferenceClient;
use manifold_contract::ai::v1::{ChatRequest, ListModelsRequest};
use manifold_contract::identity::v1::keys_client::KeysClient;
use manifold_contract::identity::v1::{ListKeysRequest, Principal, SubjectKind};
use manifold_core::{KeyId, RequestId, TenantId};
use manifold_testkit::Upstream;
use prost::Message;
use serde_json::json;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::database::Database;
use crate::program::{MODEL, Program, SECRET, Server};

struct House {
    database: Database,
    router: Server,
    door: Server,
}

/// Both processes; the door believes that `secret` is the secret.
async fn house(groq: &Upstream, secret: &str) -> Result<House> {
    let database = Database::create().await?;
    let both = Program::new()?.groq(groq).set("store.url", database.url.clone());
    let router = both.clone().set("mesh.secret", SECRET).start("ai-router").await?;
    let address = format!("http://{}", router.grpc()?);
    let door = both.set("mesh.secret", secret).set("mesh.ai_router", address).start("edge").await?;
    Ok(House { database, router, door })
}

impl House {
    async fn end(mut self) -> Result<()> {
        self.door.stop().await?;
        self.router.stop().await?;
        self.database.drop().await
    }
}

/// A principal that nobody has, who may do everything.
fn forged() -> BinaryMetadataValue {
    let key = KeyId(Uuid::from_u128(7)).to_string();
    let principal = Principal {
        tenant: TenantId(Uuid::from_u128(7)).to_string(),
        subject: key.clone(),
        kind: SubjectKind::Key.into(),
        key,
        session: String::new(),
        permissions: vec!["*".to_owned()],
        environment: "live".to_owned(),
        ..Principal::default()
    };
    BinaryMetadataValue::from_bytes(&principal.encode_to_vec())
}

/// Everything that a member would send, with this secret or without any.
fn pretend(metadata: &mut MetadataMap, secret: Option<&str>) -> Result<()> {
    metadata.insert_bin("x-manifold-principal-bin", forged());
    metadata.insert("x-manifold-request-id", RequestId(Uuid::from_u128(7)).to_string().parse()?);
    metadata.insert("grpc-timeout", "5S".parse()?);
    if let Some(secret) = secret {
        metadata.insert("x-manifold-mesh-secret", secret.parse()?);
    }
    Ok(())
}

fn pretended<T>(message: T, secret: Option<&str>) -> Result<Request<T>> {
    let mut request = Request::new(message);
    pretend(request.metadata_mut(), secret)?;
    Ok(request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_and_the_router_answer_as_one() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut house = house(&groq, SECRET).await?;
    house.door.ready().await?;

    let reply = house.door.admin()?.chat(MODEL, "hi").await?;
    let streamed = house.door.admin()?.stream(MODEL, "hi").await?.rest().await?;

    assert_eq!((reply.status, reply.said().as_str()), (200, "hello from upstream"));
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    house.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_with_a_wrong_secret_is_never_served() -> Result<()> {
    let groq = Upstream::start().await?;
    let house = house(&groq, "another-mesh-secret").await?;

    let reply = house.door.admin()?.chat(MODEL, "hi").await?;
    let streamed = house.door.admin()?.stream(MODEL, "hi").await?.status;

    assert_eq!((reply.status, streamed), (503, 503), "the caller's own key is fine: {}", reply.text);
    assert!(!reply.text.contains("secret"), "what is wrong inside is for operators: {}", reply.text);
    let told = format!("{}{}", house.door.log(), house.router.log());
    assert!(told.contains("mesh secret"), "and they are told: {told}");
    assert_eq!(groq.hits(), 0);
    house.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_grpc_port_gains_nothing_by_a_forged_principal() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut house = house(&groq, SECRET).await?;
    house.door.ready().await?;
    let ports = [house.router.grpc()?, house.door.grpc()?].map(|port| Endpoint::from_shared(format!("http://{port}")));
    let [router, door] = ports;
    let (router, door) = (router?.connect().await?, door?.connect().await?);

    for secret in [None, Some(""), Some("another-mesh-secret"), Some(&SECRET[..SECRET.len() - 1])] {
        let chat = pretended(ChatRequest::default(), secret)?;
        let models = pretended(ListModelsRequest::default(), secret)?;
        let keys = pretended(ListKeysRequest::default(), secret)?;
        let mut inference = InferenceClient::new(router.clone());

        let refused = [
            inference.chat(chat).await.err(),
            inference.list_models(models).await.err(),
            KeysClient::new(door.clone()).list_keys(keys).await.err(),
        ];

        for status in refused {
            let code = status.map(|status| status.code());
            assert!(matches!(code, Some(Code::Unauthenticated | Code::Unavailable)), "{secret:?}: {code:?}");
        }
    }

    assert!(
        InferenceClient::new(router).list_models(pretended(ListModelsRequest::default(), Some(SECRET))?).await.is_ok(),
        "a member is believed"
    );
    house.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_principal_at_the_public_door_gains_nothing() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut house = house(&groq, SECRET).await?;
    house.door.ready().await?;
    let admin = house.door.admin()?;
    let made = admin.post("/v1/keys", &json!({"name": "only chats"})).await?.json();
    let chats = admin.with_key(made["secret"].as_str());
    let forged = forged();
    let principal = std::str::from_utf8(forged.as_encoded_bytes())?;
    let pretence = [("x-manifold-principal-bin", principal), ("x-manifold-mesh-secret", SECRET)];

    let nobody = admin.with_key(None).send(http::Method::GET, "/v1/keys", &pretence, Vec::new()).await?;
    let little = chats.send(http::Method::GET, "/v1/keys", &pretence, Vec::new()).await?;
    let own = admin.send(http::Method::GET, "/v1/keys", &pretence, Vec::new()).await?;

    assert_eq!((nobody.status, little.status, own.status), (401, 403, 200));
    assert!(own.text.contains("only chats"), "still the caller's own tenant: {}", own.text);
    house.end().await
}
