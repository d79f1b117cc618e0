"""The embedded broker: librdkafka's mock cluster, a real Kafka endpoint without Kafka.

`python -m worker.demo.broker` is the broker, one process that ends when its stdin closes; `Broker`
starts it and speaks to it. It keeps the newest 5 MiB of each partition.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PARTITIONS: Final = 8  # 40 MiB a topic: thousands of searches of 4 KB, and their lists
PRODUCE: Final = 0  # Kafka's API key
MESSAGE_TOO_LARGE: Final = 10  # an error that no client retries
PRODUCER: Final = 0  # librdkafka's rd_kafka_type_t
STOP_SECONDS: Final = 5.0
ROOT: Final = Path(__file__).parents[2]


class BrokerFailed(RuntimeError):
    """The broker's process did not start, ended early, or refused a command."""


class Broker:
    """A broker in a child process. It cannot outlive us: it holds on to its stdin."""

    def __init__(self) -> None:
        self.bootstrap = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the child and wait until it accepts connections at `bootstrap`."""
        command = [sys.executable, "-m", "worker.demo.broker"]
        # A session of its own: Ctrl-C in a terminal reaches us, and we end the broker last.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self.bootstrap = str(self._answer()["bootstrap"])
        return self

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Create a topic; an existing one is refused."""
        self._ask({"topic": name, "partitions": partitions})

    def fail_produces(
        self, n: int, code: int = MESSAGE_TOO_LARGE, topic: str | None = None, partition: int = 0
    ) -> None:
        """Fail the next `n` produce requests: whoever's, or those to one partition of a topic."""
        self._ask({"produce_errors": n, "code": code, "topic": topic, "partition": partition})

    def slow_down(self, rtt_ms: int) -> None:
        """Answer every request only after `rtt_ms`."""
        self._ask({"rtt_ms": rtt_ms})

    def stop(self) -> None:
        """End the child and reap it. Stopping twice, or before a start, is allowed."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
            process.wait(STOP_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        finally:
            process.stdout.close()

    def _ask(self, command: dict[str, object]) -> None:
        if self._process is None or self._process.stdin is None:
            raise BrokerFailed("the broker is not running")
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BrokerFailed("the broker has ended") from None
        answer = self._answer()
        if "error" in answer:
            raise BrokerFailed(f"the broker refused {command}: {answer['error']}")

    def _answer(self) -> dict[str, object]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise BrokerFailed("the broker has ended; its stderr says why")
        answer: dict[str, object] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def library() -> ctypes.CDLL:
    """librdkafka as the confluent-kafka wheel carries it."""
    from confluent_kafka import cimpl

    # The wheel's own copy has a name with a hash in it; a symbol looked up in the extension is
    # found in the libraries that the extension links.
    rdkafka = ctypes.CDLL(cimpl.__file__)
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "conf_new": (pointer, []),
        "conf_set": (integer, [pointer, text, text, text, ctypes.c_size_t]),
        "new": (pointer, [integer, pointer, text, ctypes.c_size_t]),
        "mock_cluster_new": (pointer, [pointer, integer]),
        "mock_cluster_bootstraps": (text, [pointer]),
        "mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "mock_topic_create": (integer, [pointer, text, integer, integer]),
        "mock_broker_set_rtt": (integer, [pointer, ctypes.c_int32, integer]),
        "mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(integer)],
        ),
        # Variadic: the error codes follow.
        "mock_partition_push_request_errors": (
            integer,
            [pointer, text, ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t],
        ),
        "err2str": (text, [integer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(rdkafka, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return rdkafka


class MockCluster:
    """One broker of librdkafka's mock cluster, in this process, until the process ends."""

    def __init__(self) -> None:
        self._rdkafka = library()
        error = ctypes.create_string_buffer(512)
        configuration = self._rdkafka.rd_kafka_conf_new()
        self._rdkafka.rd_kafka_conf_set(configuration, b"log_level", b"3", error, len(error))
        client = self._rdkafka.rd_kafka_new(PRODUCER, configuration, error, len(error))
        if not client:
            raise BrokerFailed(error.value.decode())
        self._cluster = self._rdkafka.rd_kafka_mock_cluster_new(client, 1)
        # The default waits 3 s for more members; a second member is beyond this broker anyway.
        self._rdkafka.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    def bootstrap(self) -> str:
        servers: bytes = self._rdkafka.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def obey(self, command: dict[str, Any]) -> None:
        """Do what one line of stdin says."""
        match command:
            case {"topic": str(name), "partitions": int(n)}:
                self._check(
                    self._rdkafka.rd_kafka_mock_topic_create(self._cluster, name.encode(), n, 1)
                )
            case {"produce_errors": int(n), "code": int(code), "topic": str(name)}:
                for _ in range(n):
                    self._check(
                        self._rdkafka.rd_kafka_mock_partition_push_request_errors(
                            self._cluster, name.encode(), command["partition"], PRODUCE, 1, code
                        )
                    )
            case {"produce_errors": int(n), "code": int(code)}:
                self._rdkafka.rd_kafka_mock_push_request_errors_array(
                    self._cluster, PRODUCE, n, (ctypes.c_int * n)(*[code] * n)
                )
            case {"rtt_ms": int(rtt_ms)}:
                self._check(self._rdkafka.rd_kafka_mock_broker_set_rtt(self._cluster, -1, rtt_ms))
            case _:
                raise BrokerFailed("no such command")

    def _check(self, code: int) -> None:
        if code:
            raise BrokerFailed(self._rdkafka.rd_kafka_err2str(code).decode())


def serve(lines: Any, say: Callable[[dict[str, object]], None]) -> None:
    """The broker's whole life: greet, then answer each line until there are no more."""
    cluster = MockCluster()
    say({"bootstrap": cluster.bootstrap()})
    for line in lines:
        try:
            cluster.obey(json.loads(line))
        except (BrokerFailed, ValueError) as error:
            say({"error": str(error)})
        else:
            say({"ok": True})


if __name__ == "__main__":
    serve(sys.stdin, lambda answer: print(json.dumps(answer), flush=True))
