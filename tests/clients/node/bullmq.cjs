// BullMQ as anybody would use it: node bullmq.cjs ROLE URL [OPTIONS as JSON]
//
// work      runs jobs until SIGTERM, and says of every run what it was, how it went, and when it began and ended
// produce   sends jobs of all kinds, and says what became of them
// send      sends the jobs of the options (name, data, job's options), without waiting for them
// schedule  sends jobs that repeat, until so many have run
// manage    pauses a queue, takes a job out of it, drains it, and lets it go on
//
// otel      an option of work and send: where bullmq-otel's spans go
"use strict";

const { Queue, Worker, FlowProducer, DelayedError } = require("bullmq");
const { readFileSync } = require("node:fs");

const [role, address, text] = process.argv.slice(2);
const options = { client: "ioredis", concurrency: 1, rounds: 2, ...JSON.parse(text ?? "{}") };
const url = new URL(address);
const opened = [];

function connection() {
  if (options.client === "node-redis") {
    const client = require("redis").createClient({ url: address, RESP: options.resp ?? 3 });
    opened.push(client);
    return client;
  }
  return { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
}

const shared = (more) => ({ connection: connection(), ...(options.prefix ? { prefix: options.prefix } : {}), ...more });
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);
const version = JSON.parse(readFileSync(require.resolve("bullmq").replace(/dist.*/, "package.json"))).version;
const modern = Number(version.split(".")[0]) > 5 || /^5\.[4-9]\d/.test(version);

async function run(job, token, queue) {
  const attempt = job.attemptsMade;
  switch (job.name) {
    case "slow":
      if (!job.data.once || (job.attemptsStarted ?? attempt) < 2) await sleep(job.data.ms);
      return "slept";
    case "flaky":
    case "again":
      if (job.stacktrace.length < 2) throw new TypeError(`secret ${attempt}`);
      return "at last";
    case "broken":
      throw new RangeError("secret");
    case "later":
    case "add":
      return job.data.n + 1;
    case "nest":
      await queue.add("add", { n: job.data.n * 10 });
      return "nested";
    case "parent":
      return Object.values(await job.getChildrenValues()).sort();
    case "postponed":
      if (!job.data.seen) {
        await (job.updateData ?? job.update).call(job, { seen: true });
        await job.moveToDelayed(Date.now() + 200, token);
        throw new DelayedError();
      }
      return "in the end";
    case "tick":
      return job.data.n;
    default:
      throw new Error(`what is ${job.name}?`);
  }
}

function telemetry() {
  if (!options.otel) return {};
  const { NodeTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-node");
  const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-proto");
  const { BullMQOtel } = require("bullmq-otel");
  const processor = new BatchSpanProcessor(new OTLPTraceExporter({ url: options.otel }), { scheduledDelayMillis: 100 });
  new NodeTracerProvider({ spanProcessors: [processor] }).register();
  opened.push({ isOpen: true, destroy: () => processor.shutdown() });
  return { telemetry: new BullMQOtel({ tracerName: "the application" }) };
}

async function work() {
  const queue = new Queue("mails", shared());
  const worker = new Worker(
    "mails",
    async (job, token) => {
      const begin = now();
      const said = { id: job.id, name: job.name, carried: job.opts.traceparent ?? "" };
      if (job.name === "slow") say({ ...said, begin });
      try {
        const value = await run(job, token, queue);
        say({ ...said, begin, end: now(), value });
        return value;
      } catch (error) {
        say({ ...said, begin, end: now(), error: error.name });
        throw error;
      }
    },
    shared({
      concurrency: options.concurrency,
      drainDelay: 1,
      lockDuration: options.lock ?? 30000,
      stalledInterval: options.lock ?? 30000,
      ...telemetry(),
    }),
  );
  worker.on("error", (error) => process.stderr.write(`${error.stack}\n`));
  await worker.waitUntilReady();
  say({ ready: version });
  process.on("SIGTERM", async () => {
    await worker.close();
    await queue.close();
    for (const client of opened) if (client.isOpen) await client.destroy();
    process.exit(0);
  });
}

async function outcome(job) {
  for (;;) {
    const state = await job.getState();
    if (state === "completed" || state === "failed" || state === "unknown") {
      const fresh = await Queue.prototype.getJob.call(job.queue, job.id).catch(() => undefined);
      return [job.name, state, (fresh ?? job).returnvalue ?? null];
    }
    await sleep(20);
  }
}

async function produce() {
  const queue = new Queue("mails", shared());
  const flows = new FlowProducer(shared());
  const jobs = [];
  for (let n = 0; n < options.rounds; n++) {
    jobs.push(await queue.add("add", { n, note: "private" }));
    jobs.push(await queue.add("flaky", { n }, { attempts: 3, backoff: { type: "fixed", delay: 150 } }));
    jobs.push(await queue.add("again", { n }, { attempts: 3, priority: 3 }));
    jobs.push(await queue.add("broken", { n }, { attempts: 2 }));
    jobs.push(await queue.add("later", { n }, { delay: 300 }));
    jobs.push(...(await queue.addBulk([1, 2].map((two) => ({ name: "add", data: { n: two } })))));
    jobs.push(await queue.add("nest", { n }));
    jobs.push(await queue.add("postponed", {}));
    jobs.push(await queue.add("add", { n }, { jobId: `custom-${n}`, removeOnComplete: true }));
    const children = [7, 8].map((m) => ({ name: "add", queueName: "mails", data: { n: m } }));
    const flow = await flows.add({ name: "parent", queueName: "mails", data: {}, children });
    jobs.push(flow.job, ...flow.children.map((child) => child.job));
  }
  const became = [];
  for (const job of jobs) {
    const found = await queue.getJob(job.id);
    became.push(found ? await outcome(Object.assign(found, { queue })) : [job.name, "gone", null]);
  }
  say({ became });
  await leave(queue, flows);
}

async function send() {
  const queue = new Queue("mails", shared(telemetry()));
  for (const [name, data, job] of options.jobs) say({ id: (await queue.add(name, data, job ?? {})).id });
  await leave(queue);
}

async function schedule() {
  const queue = new Queue("mails", shared());
  const every = { every: 250, limit: options.rounds };
  if (modern) {
    await queue.upsertJobScheduler("clock", every, { name: "tick", data: { n: 1 } });
  } else {
    await queue.add("tick", { n: 1 }, { repeat: every });
  }
  while ((await queue.getCompletedCount()) < options.rounds) await sleep(20);
  say({ ran: await queue.getCompletedCount() });
  await leave(queue);
}

async function manage() {
  const queue = new Queue("mails", shared());
  await queue.pause();
  const jobs = await queue.addBulk([1, 2, 3].map((n) => ({ name: "add", data: { n } })));
  await jobs[0].remove();
  const waiting = async () => (await queue.getJobs(["wait", "paused"])).length;
  say({ paused: await queue.isPaused(), removed: jobs[0].id, waiting: await waiting() });
  await queue.drain();
  await queue.resume();
  say({ paused: await queue.isPaused(), waiting: await waiting() });
  await leave(queue);
}

async function leave(...closing) {
  for (const one of closing) await one.close();
  for (const client of opened) if (client.isOpen) await client.destroy();
  process.exit(0);
}

({ work, produce, send, schedule, manage })[role]().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
