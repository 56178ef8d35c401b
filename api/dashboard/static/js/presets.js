// How a form of a configuration is arranged, and the three ways to fill it in.

/** The groups of a form, in their order; a field that none names belongs to the family, and so do those of later versions. */
export const GROUPS = [
  { name: "basics", title: "Basics", isOpen: true, keys: ["resolution", "total_images", "width", "batch", "conditional", "pair", "seed"] },
  { name: "networks", title: "Networks and losses", keys: [] },
  { name: "pictures", title: "Pictures", keys: ["fit", "flips", "held_out"] },
  {
    name: "few", title: "Against overfitting",
    keys: ["pipeline", "augmentation", "ada_kinds", "adaptive_target", "adaptive_images", "lecam", "lecam_start_iterations",
      "apa_target", "apa_images", "insgen", "insgen_generator", "insgen_queue", "freeze_discriminator"],
  },
  {
    name: "device", title: "Snapshots and the device",
    keys: ["evaluate_every_images", "checkpoint_every_images", "evaluation_backlog", "ema", "precision", "compile"],
  },
  { name: "evaluation", title: "Evaluation" },
  { name: "stopping", title: "Early end" },
  { name: "alarms", title: "Alarms" },
  { name: "retention", title: "Generators that are kept" },
];

/** The name of the group that a field is in. */
export function groupOf({ path }) {
  if (path.length > 1) return path[0];
  return GROUPS.find(({ keys }) => keys?.includes(path[0]))?.name ?? "networks";
}

/** Presets by name; `values` gives fields and their values, of which a family takes those that it has. */
export const PRESETS = {
  try: {
    title: "Try it", text: "64 pixels, 4,000 pictures seen, small evaluations: to see that all is well.",
    values: {
      resolution: 64, total_images: 4_000, evaluate_every_images: 1_000, autoencoder_images: 2_000,
      "evaluation.generated": 256, "evaluation.lpips_pairs": 64, "evaluation.copies": 64,
    },
  },
  balanced: { title: "Balanced", text: "What the family has by itself.", values: {} },
  best: {
    title: "Best quality", text: "256 pixels, longer and more patient, with finer measurements. Meant for a GPU.",
    values: {
      resolution: 256, total_images: 600_000, "evaluation.generated": 10_000, "evaluation.copies": 1_000,
      "stopping.plateau_evaluations": 12,
    },
  },
};
