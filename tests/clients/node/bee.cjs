// bee-queue as anybody would use it: node bee.cjs ROLE URL [OPTIONS as JSON]; the roles are those of bullmq.cjs
"use strict";

const Queue = require("bee-queue");

const [role, address, text] = process.argv.slice(2);
const options = { concurrency: 1, rounds: 2, ...JSON.parse(text ?? "{}") };
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

const queue = new Queue("mails", {
  redis: { url: address },
  activateDelayedJobs: true,
  delayedDebounce: 50,
  isWorker: role === "work",
  removeOnSuccess: options.remove ?? false,
  sendEvents: options.events ?? true,
  stallInterval: options.lock ?? 30000,
});
queue.on("error", (error) => process.stderr.write(`${error.stack}\n`));

async function run(job) {
  const { kind, n, ms, once } = job.data;
  const failed = job.options.stacktraces.length;
  switch (kind) {
    case "slow":
      if (!once || !options.second) await sleep(ms);
      return "slept";
    case "flaky":
    case "again":
      if (failed < 2) throw new TypeError(`secret ${failed}`);
      return "at last";
    case "broken":
      throw new RangeError("secret");
    case "later":
    case "add":
      return n + 1;
    case "nest":
      await queue.createJob({ kind: "add", n: n * 10 }).save();
      return "nested";
    default:
      throw new Error(`what is ${kind}?`);
  }
}

async function work() {
  queue.process(options.concurrency, async (job) => {
    const begin = now();
    const said = { id: job.id, name: job.data.kind, carried: job.options.traceparent ?? "" };
    if (said.name === "slow") say({ ...said, begin });
    try {
      const value = await run(job);
      say({ ...said, begin, end: now(), value });
      return value;
    } catch (error) {
      say({ ...said, begin, end: now(), error: error.name });
      throw error;
    }
  });
  if (options.lock) queue.checkStalledJobs(options.lock);
  await queue.ready();
  say({ ready: true });
  process.on("SIGTERM", () => leave());
}

async function outcome(job) {
  for (;;) {
    const fresh = await Queue.prototype.getJob.call(queue, job.id);
    queue.jobs.delete(job.id);
    if (!fresh) return [job.data.kind, "gone"];
    if (fresh.status === "succeeded" || fresh.status === "failed") return [job.data.kind, fresh.status];
    await sleep(20);
  }
}

async function produce() {
  const jobs = [];
  const add = (data) => queue.createJob(data);
  for (let n = 0; n < options.rounds; n++) {
    jobs.push(await add({ kind: "add", n, note: "private" }).save());
    jobs.push(await add({ kind: "flaky", n }).retries(2).backoff("fixed", 150).save());
    jobs.push(await add({ kind: "again", n }).retries(2).save());
    jobs.push(await add({ kind: "broken", n }).retries(1).save());
    jobs.push(await add({ kind: "later", n }).delayUntil(Date.now() + 300).save());
    const many = [1, 2].map((two) => add({ kind: "add", n: two }));
    await queue.saveAll(many);
    jobs.push(...many);
    jobs.push(await add({ kind: "nest", n }).save());
    jobs.push(await add({ kind: "add", n }).setId(`custom-${n}`).save());
  }
  const again = await add({ kind: "add", n: 0 }).setId("custom-0").save();
  queue.jobs.clear();
  const became = [];
  for (const job of jobs) became.push(await outcome(job));
  say({ became, again: again.id });
  await leave();
}

async function send() {
  for (const [kind, data, more] of options.jobs) {
    const job = queue.createJob({ kind, ...data });
    if (more?.retries) job.retries(more.retries);
    await job.save();
    say({ id: job.id });
  }
  await leave();
}

async function leave() {
  await queue.close();
  process.exit(0);
}

({ work, produce, send })[role]().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
