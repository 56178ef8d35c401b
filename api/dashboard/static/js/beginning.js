// What a new job takes over from the checkpoint that it begins from.
import { request } from "./api.js";
import { count } from "./format.js";
import { fieldsOf } from "./fields.js";

// What belongs to the run rather than to the networks, or is settled anew when a job is submitted.
const NOT_TAKEN = new Set(["seed", "total_images", "evaluate_every_images", "checkpoint_every_images"]);

/**
 * The family and the values of the job that left a checkpoint, since its networks must have the same shape.
 *
 * @returns {Promise<{checkpointId: string|null, family?: string, datasetId?: string, values: object, note: string}>}
 */
export async function beginning(checkpointId, models) {
  if (!checkpointId) return { checkpointId: null, values: {}, note: "" };
  const checkpoint = await request("GET", `/v1/checkpoints/${encodeURIComponent(checkpointId)}`);
  const job = await request("GET", `/v1/jobs/${checkpoint.job_id}?fields=name,family,config,dataset_id`);
  const model = models.find(({ family }) => family === job.family);
  const values = {};
  for (const { key, path } of fieldsOf(model.config_schema)) {
    const [value, usual] = [job.config, model.defaults].map((config) => path.reduce((part, name) => part?.[name], config));
    const isTaken = path.length === 1 && !NOT_TAKEN.has(key);
    if (isTaken && JSON.stringify(value) !== JSON.stringify(usual)) values[key] = value;
  }
  const note = `Begins from a ${checkpoint.kind} of ${job.name || "a job without a name"}, after ${count(checkpoint.images_seen)} `
    + "pictures; the configuration is that job's.";
  return { checkpointId, family: job.family, datasetId: job.dataset_id, values, note };
}
