// Busway itself, as a process for the tests.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const SOURCES = fileURLToPath(new URL("../../src", import.meta.url));
const PYTHON = process.env.PYTHON ?? "python3";

/** Start the service, on a port and a bus of its own. */
export async function start(port = 0) {
  const directory = await mkdtemp(join(tmpdir(), "busway-js-"));
  const process_ = spawn(
    PYTHON,
    ["-m", "busway", "serve", "consumers:routing", "--port", port, "--workers", "1"],
    {
      cwd: HERE,
      detached: true, // a group of its own, which is killed as one
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PYTHONPATH: SOURCES,
        PYTHONUNBUFFERED: "1",
        BUSWAY_LAYER: `ipc://js?directory=${directory}&size=8388608`,
      },
    },
  );
  const ended = new Promise((resolve) => process_.once("exit", resolve));
  const url = await readiness(process_);
  return {
    url: url.replace("http", "ws"),
    port: Number(new URL(url).port),
    async kill() {
      process.kill(-process_.pid, "SIGKILL");
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Read what the service prints until it says where it is ready, and on, lest it blocks. */
function readiness({ stdout, stderr }) {
  const printed = [];
  return new Promise((resolve, reject) => {
    for (const stream of [stdout, stderr]) {
      createInterface(stream).on("line", (line) => {
        printed.push(line);
        const found = line.match(/(http:\S+) is ready/);
        if (found) resolve(found[1]);
      });
    }
    stdout.once("end", () => reject(new Error(`it did not start:\n${printed.join("\n")}`)));
  });
}
