// Bull as anybody would use it: node bull.cjs ROLE URL [OPTIONS as JSON]; the roles are those of bullmq.cjs
"use strict";

const Queue = require("bull");

const [role, address, text] = process.argv.slice(2);
const options = { concurrency: 1, rounds: 2, ...JSON.parse(text ?? "{}") };
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);

const lock = options.lock ?? 30000;
const queue = new Queue("mails", address, {
  settings: { drainDelay: 1, lockDuration: lock, lockRenewTime: lock / 2, stalledInterval: lock, guardInterval: 500 },
});
queue.on("error", (error) => process.stderr.write(`${error.stack}\n`));

async function run(job) {
  switch (job.name) {
    case "slow":
      if (await queue.client.incr(`ran:${job.id}`) === 1 || !job.data.once) await sleep(job.data.ms);
      return "slept";
    case "flaky":
    case "again":
      if (job.attemptsMade < 2) throw new TypeError(`secret ${job.attemptsMade}`);
      return "at last";
    case "broken":
      throw new RangeError("secret");
    case "later":
    case "add":
      return job.data.n + 1;
    case "nest":
      await queue.add("add", { n: job.data.n * 10 });
      return "nested";
    case "tick":
      return job.data.n;
    default:
      throw new Error(`what is ${job.name}?`);
  }
}

async function work() {
  queue.process("*", options.concurrency, async (job) => {
    const begin = now();
    const said = { id: job.id, name: job.name, carried: job.opts.traceparent ?? "" };
    if (job.name === "slow") say({ ...said, begin });
    try {
      const value = await run(job);
      say({ ...said, begin, end: now(), value });
      return value;
    } catch (error) {
      say({ ...said, begin, end: now(), error: error.name });
      throw error;
    }
  });
  await queue.isReady();
  say({ ready: true });
  process.on("SIGTERM", () => leave());
}

async function outcome(job) {
  for (;;) {
    const fresh = await queue.getJob(job.id);
    if (!fresh) return [job.name, "gone", null];
    const state = await fresh.getState();
    if (state === "completed" || state === "failed") {
      return [job.name, state, (await queue.getJob(job.id))?.returnvalue ?? null];
    }
    await sleep(20);
  }
}

async function produce() {
  const jobs = [];
  for (let n = 0; n < options.rounds; n++) {
    jobs.push(await queue.add("add", { n, note: "private" }));
    jobs.push(await queue.add("flaky", { n }, { attempts: 3, backoff: { type: "fixed", delay: 150 } }));
    jobs.push(await queue.add("again", { n }, { attempts: 3, priority: 3 }));
    jobs.push(await queue.add("broken", { n }, { attempts: 2 }));
    jobs.push(await queue.add("later", { n }, { delay: 300 }));
    jobs.push(...(await queue.addBulk([1, 2].map((two) => ({ name: "add", data: { n: two } })))));
    jobs.push(await queue.add("nest", { n }));
    jobs.push(await queue.add("add", { n }, { jobId: `custom-${n}`, removeOnComplete: true }));
  }
  const became = [];
  for (const job of jobs) became.push(await outcome(job));
  say({ became });
  await leave();
}

async function send() {
  for (const [name, data, job] of options.jobs) say({ id: (await queue.add(name, data, job ?? {})).id });
  await leave();
}

async function schedule() {
  await queue.add("tick", { n: 1 }, { repeat: { every: 250, limit: options.rounds } });
  while ((await queue.getCompletedCount()) < options.rounds) await sleep(20);
  say({ ran: await queue.getCompletedCount() });
  await leave();
}

async function leave() {
  await queue.close();
  process.exit(0);
}

({ work, produce, send, schedule })[role]().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
