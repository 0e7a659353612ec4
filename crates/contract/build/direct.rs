//! Generates, beside tonic's client and server of a service, one module more: a client that calls the service as a plain
//! function when it lives in the same process, and `offer`, which makes a service callable both ways.

use prost_build::{Comments, Config, Method, Service, ServiceGenerator};

/// What a build script compiles its descriptors with.
pub fn config() -> Config {
    let mut config = Config::new();
    config.service_generator(Box::new(Direct { tonic: tonic_prost_build::configure().service_generator() }));
    config
}

struct Direct {
    tonic: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for Direct {
    fn generate(&mut self, service: Service, code: &mut String) {
        code.push_str(&module(&service));
        self.tonic.generate(service, code);
    }
}

const MODULE: &str = r#"
/// The service `$FULL`, in this process or in another.
pub mod $MODULE {
    #![allow(dead_code, missing_docs)]
    use super::$MODULE_client::$NAMEClient;
    use super::$MODULE_server::{$NAME, $NAMEServer};
    use ::manifold_contract::direct::{self, DirectChannel, Layers as _, MAX_MESSAGE, Offer};
    use ::std::sync::Arc;
    use ::tonic::{Request, Response, Status};

    /// What can be called without encoding: whatever is asked with one message.
    pub trait Direct: Send + Sync {
        $DECLARED
    }

    impl<T: $NAME> Direct for T {
        $DEFINED
    }

    /// Offers a service: to this process as it is, to others over gRPC.
    pub fn offer<T: $NAME>(service: T) -> Offer<$NAMEServer<T>> {
        let service = Arc::new(service);
        let direct: Arc<dyn Direct> = service.clone();
        let server = $NAMEServer::from_arc(service)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Offer { server, direct: Some(Arc::new(direct)) }
    }

    $COMMENTS
    #[derive(Clone, Debug)]
    pub struct Client<C> {
        channel: C,
        remote: $NAMEClient<C>,
    }

    impl<C: DirectChannel> Client<C> {
        /// A client over a channel.
        pub fn new(channel: C) -> Self {
            let remote = $NAMEClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            Self { channel, remote }
        }

        $CALLS
    }
}
"#;

const CALL: &str = r#"
        $COMMENTS
        pub async fn $METHOD(&self, request: Request<super::$INPUT>) -> Result<Response<$ANSWER>, Status> {
            let Some(service) = self.channel.direct::<Arc<dyn Direct>>("$FULL") else {
                return self.remote.clone().$METHOD(request).await$BOXED;
            };
            let mut request = request;
            let layers = self.channel.enter("/$FULL/$PROTO", request.extensions_mut());
            layers.$RUN(service.$METHOD(request)).await
        }
"#;

/// A stream of requests is encoded in this process as well: tonic's servers read nothing else.
const STREAMING_CALL: &str = r#"
        $COMMENTS
        pub async fn $METHOD(
            &self,
            request: impl ::tonic::IntoStreamingRequest<Message = super::$INPUT>,
        ) -> Result<Response<$ANSWER>, Status> {
            self.remote.clone().$METHOD(request).await$BOXED
        }
"#;

const SIGNATURE: &str = "fn $METHOD<'a>(&'a self, request: Request<super::$INPUT>)
            -> direct::BoxFuture<'a, Result<Response<$ANSWER>, Status>>";

const DEFINITION: &str = " { <T as $NAME>::$METHOD(self, request) }";

const STREAM_DEFINITION: &str = " {
            Box::pin(async move { <T as $NAME>::$METHOD(self, request).await$BOXED })
        }";

fn module(service: &Service) -> String {
    let direct = || service.methods.iter().filter(|method| !method.client_streaming);
    let declared: String = direct().map(|method| fill(SIGNATURE, method) + ";\n").collect();
    let defined = direct().map(|method| match method.server_streaming {
        true => fill(SIGNATURE, method) + &fill(STREAM_DEFINITION, method),
        false => fill(SIGNATURE, method) + &fill(DEFINITION, method),
    });
    let calls = service.methods.iter().map(|method| match method.client_streaming {
        true => fill(STREAMING_CALL, method),
        false => fill(CALL, method),
    });
    MODULE
        .replace("$DECLARED", &declared)
        .replace("$DEFINED", &defined.collect::<String>())
        .replace("$CALLS", &calls.collect::<String>())
        .replace("$COMMENTS", &doc(&service.comments))
        .replace("$FULL", &format!("{}.{}", service.package, service.proto_name))
        .replace("$MODULE", &snake(&service.name))
        .replace("$NAME", &service.name)
}

fn fill(template: &str, method: &Method) -> String {
    let output = format!("super::{}", method.output_type);
    let (answer, run, boxed) = match method.server_streaming {
        true => (
            format!("direct::BoxStream<{output}>"),
            "stream",
            ".map(|answer| answer.map(|answers| Box::pin(answers) as direct::BoxStream<_>))",
        ),
        false => (output, "unary", ""),
    };
    template
        .replace("$COMMENTS", &doc(&method.comments))
        .replace("$METHOD", &method.name)
        .replace("$PROTO", &method.proto_name)
        .replace("$INPUT", &method.input_type)
        .replace("$ANSWER", &answer)
        .replace("$RUN", run)
        .replace("$BOXED", boxed)
}

fn doc(comments: &Comments) -> String {
    comments.leading.iter().flat_map(|block| block.lines()).map(|line| format!("///{line}\n")).collect()
}

/// `ApiKeys` becomes `api_keys`, as tonic names its modules.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
