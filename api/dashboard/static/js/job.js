// One job: what it is, how it goes, and what can be done with it; live by its events.
import { all, request } from "./api.js";
import { showActions } from "./job_actions.js";
import { showCurves, showLosses } from "./job_charts.js";
import { showCheckpoints, showConfig, showHead } from "./job_facts.js";
import { Filmstrip } from "./job_samples.js";
import { followEvents, followLog } from "./job_stream.js";
import { byId } from "./dom.js";
import { poll } from "./poll.js";
import { failed, loading, shown } from "./states.js";

const EVERY_MS = 2_000;
const LOSSES_EVERY_MS = 8_000;
const REST_MS = 300; // Several events mostly come together.
const OVER = new Set(["succeeded", "failed", "cancelled"]);

const id = location.pathname.split("/")[2];
const path = `/v1/jobs/${encodeURIComponent(id)}`;
const grids = new Filmstrip(byId("grids"), { label: "Sample grid", none: "No grid yet: the first comes with the first snapshot." });
const pairs = new Filmstrip(byId("pairs"), { label: "Generated beside nearest real", none: "No such picture yet: evaluations leave them." });
let job = null;
let lossesOf = null;
let lossesAt = -Infinity;
let stream = null;

async function showJob() {
  job = await request("GET", path);
  showHead(job);
  showActions(byId("actions"), job, { path, onDone: showAll });
  if (!stream || (stream.isOver && !OVER.has(job.status))) connect();
  const isDue = performance.now() - lossesAt > LOSSES_EVERY_MS || OVER.has(job.status);
  if (isDue && lossesOf !== `${job.run} ${job.images_seen}`) await loadLosses();
}

async function loadLosses() {
  lossesOf = `${job.run} ${job.images_seen}`;
  lossesAt = performance.now();
  showLosses((await request("GET", `${path}/losses?points=400`)).items);
}

/** All that a new event may have changed. */
async function showAll() {
  await showJob();
  const [points, samples, checkpoints] = await Promise.all(
    ["metrics", "samples?kind=grid", "checkpoints"].map((what) => all(`${path}/${what}`)));
  showCurves(points, job);
  showConfig(job);
  showCheckpoints(byId("checkpoints"), checkpoints, job);
  grids.show(samples.map((sample) => ({ seen: sample.images_seen, address: `/v1/samples/${sample.id}/file?redirect=false` })));
  pairs.show(points.filter((point) => point.picture).map((point) => (
    { seen: point.images_seen, address: `${point.picture.url}?redirect=false` })));
}

function connect() {
  stream?.stop();
  let timer;
  stream = followEvents(path, () => {
    clearTimeout(timer);
    timer = setTimeout(() => showAll().catch(showTrouble), REST_MS);
  });
  followLog(path, stream.signal);
}

/** What was shown stays; the poll below tries again. */
function showTrouble(error) {
  byId("live").title = error.message;
}

async function begin() {
  loading(byId("loading"), "Loading the job…");
  try {
    job = await request("GET", path); // Nothing of the page is shown before it is known that there is such a job.
    byId("job").hidden = false; // Charts take their size from their place.
    await showAll();
  } catch (error) {
    failed(byId("loading"), error, begin);
    return;
  }
  shown(byId("loading"));
  // Progress is no event: it is asked for. The badge is the stream's.
  poll(() => (OVER.has(job.status) ? undefined : showJob()), EVERY_MS, () => {});
}

begin();
