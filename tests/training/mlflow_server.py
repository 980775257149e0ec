"""The few requests of MLflow's REST interface that a run makes, answered from memory."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class MLflowServer:
    """It has its port from the beginning, but answers only between `start` and `stop`."""

    def __init__(self, artifacts: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.artifacts = artifacts
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        threading.Thread(target=self.server.serve_forever, args=[0.01]).start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def steps(self) -> set[int]:
        """The steps whose metrics came."""
        batches = [body for path, body in self.seen if path == "runs/log-batch"]
        return {int(metric["step"]) for body in batches for metric in body.get("metrics", [])}

    def requests(self, path: str) -> int:
        return sum(path == each for each, _ in self.seen)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "experiments/get-by-name":
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        info = {"run_id": "r1", "experiment_id": "1", "artifact_uri": self.artifacts.as_uri()}
        return 200, {"experiment_id": "1", "run": {"info": info, "data": {}}, "run_info": info}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
                owner.seen.append((path, json.loads(content or "{}")))
                status, body = owner.answer(path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_GET = do_PATCH = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
