"""A scripted upstream for what aimock cannot play: each vendor's own error bodies, embeddings and schema fields.

Listens on the port given as the first argument; the first part of a path names the vendor. A user message `status NNN`
is answered with that status in the vendor's own words. `GET /requests` gives everything received, oldest first.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENAI_LIKE = ("groq", "mistral", "openrouter")
JSON_ANSWER = '{"name":"Ada","born":1815}'
GEMINI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
TEXT = {
    400: "the temperature is out of range",
    401: "your key is not valid here",
    404: "the model is not known here",
    429: "too many requests for this account",
    500: "something went wrong inside",
}
received = []


def error_body(vendor, status):
    """The body that the vendor documents for this status."""
    text = TEXT[status]
    if vendor == "gemini":
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}] if status == 429 else []
        return {"error": {"code": status, "message": text, "status": GEMINI_STATUS[status], "details": details}}
    if vendor == "ollama":
        return {"error": text}
    if vendor == "openrouter":
        return {"error": {"code": status, "message": text, "metadata": {}}}
    if vendor == "mistral":
        return {"object": "error", "message": text, "type": "invalid_request_error", "param": None, "code": "1000"}
    return {"error": {"message": text, "type": "invalid_request_error" if status < 429 else "server_error", "code": None}}


def user_text(body):
    """All text of the request, wherever the vendor keeps it."""
    return json.dumps(body.get("messages") or body.get("contents") or "")


def schema_of(vendor, body):
    """The JSON schema in the vendor's own field."""
    if vendor == "gemini":
        config = body.get("generationConfig", {})
        return config.get("responseJsonSchema") or config.get("responseSchema")
    if vendor == "ollama":
        return body.get("format") if isinstance(body.get("format"), dict) else None
    return body.get("response_format", {}).get("json_schema", {}).get("schema")


def chat(vendor, body):
    """A whole answer in the vendor's own shape."""
    text = JSON_ANSWER if schema_of(vendor, body) else "no schema arrived"
    if vendor == "gemini":
        return {
            "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18},
            "modelVersion": "gemini-2.5-flash",
            "responseId": "answer-1",
        }
    if vendor == "ollama":
        return {
            "model": body.get("model"), "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text}, "done": True, "done_reason": "stop",
            "total_duration": 1, "load_duration": 1, "prompt_eval_count": 11, "prompt_eval_duration": 1,
            "eval_count": 7, "eval_duration": 1,
        }
    return {
        "id": "answer-1", "object": "chat.completion", "created": 1767225600, "model": body.get("model"),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def vector(n):
    return [0.25 + n, -0.5, 0.75]


def answer(vendor, path, body):
    """Status and body for a request."""
    if path.endswith(":batchEmbedContents"):
        return 200, {"embeddings": [{"values": vector(n)} for n in range(len(body["requests"]))]}
    if path.endswith(":embedContent"):
        return 200, {"embedding": {"values": vector(0)}}
    if path.endswith("/api/embed"):
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return 200, {"model": body["model"], "embeddings": [vector(n) for n in range(len(inputs))], "prompt_eval_count": 5}
    if path.endswith("/embeddings"):
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": n, "embedding": vector(n)} for n in range(len(inputs))]
        return 200, {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    asked = re.search(r"status (\d{3})", user_text(body))
    if asked:
        return int(asked.group(1)), error_body(vendor, int(asked.group(1)))
    return 200, chat(vendor, body)


def listing(vendor, path):
    """Answers of the GET routes that gateways use to see what a vendor has."""
    if vendor == "ollama" and path.endswith("/api/version"):
        return {"version": "0.9.0"}
    if vendor == "ollama":
        return {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 1, "digest": "0", "details": {}}]}
    if vendor == "gemini":
        return {"models": [{"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]}]}
    return {"object": "list", "data": [{"id": f"{vendor}-model", "object": "model", "created": 1, "owned_by": vendor}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together

    def do_GET(self):
        if self.path == "/requests":
            return self.reply(200, received)
        vendor, path = self.vendor()
        return self.reply(200, listing(vendor, path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
        vendor, path = self.vendor()
        received.append({"vendor": vendor, "path": path, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body})
        status, answered = answer(vendor, path, body)
        if status == 200 and body.get("stream") and vendor in OPENAI_LIKE:
            return self.stream(body)
        return self.reply(status, answered, {"Retry-After": "7"} if status == 429 and vendor in OPENAI_LIKE else {})

    def vendor(self):
        _, vendor, rest = self.path.split("?")[0].split("/", 2)
        return vendor, "/" + rest

    def stream(self, body):
        chunk = {"id": "answer-1", "object": "chat.completion.chunk", "created": 1767225600, "model": body.get("model")}
        choice = {"index": 0, "delta": {"role": "assistant", "content": "in one piece"}, "finish_reason": "stop"}
        events = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\ndata: [DONE]\n\n"
        return self.reply(200, events, {"Content-Type": "text/event-stream"})

    def reply(self, status, body, headers=None):
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Quiet: the requests are recorded."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
