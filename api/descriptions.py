"""What the summaries of operations leave open, by operation; a route's own docstring goes first."""

from __future__ import annotations

_PAGED = "Pass `next_cursor` as `cursor` for the next page; on the last it is null."
_FILE = "`If-None-Match` gives 304; `Range` with one range gives 206, so that a broken download goes on."

DESCRIPTIONS = {
    "list_datasets": _PAGED,
    "get_dataset": "The pictures' number, size and hash, and what of the upload was rejected, and why.",
    "delete_dataset": "Its pictures leave the store as well; what jobs made of them stays.",
    "list_images": f"In the order of the upload. {_PAGED}",
    "get_image_file": _FILE,
    "get_thumbnail": "Made of the stored picture when it is asked for. `If-None-Match` gives 304.",
    "list_uploads": f"Those that expire are gone. {_PAGED}",
    "get_upload": "`Upload-Offset` is where to go on: so many bytes are on the disk. "
    "Bytes that arrive put the expiry off.",
    "terminate": "Its bytes go; the dataset that was made of it stays.",
    "create_key": "It has scopes that the maker's own key has, and no others. Needs the scope `admin`.",
    "list_keys": f"Also those that are revoked or expired. Needs the scope `admin`. {_PAGED}",
    "get_current_key": "Any key may ask.",
    "revoke_key": "It opens nothing from then on, in other processes of the API within two seconds. Revoking twice is "
    "no error. Needs the scope `admin`.",
    "rotate_key": "`replaced_by` of the old key names the new one. Needs the scope `admin`.",
    "list_audit_entries": f"Reads and refused requests have no entry. Needs the scope `admin`. {_PAGED}",
    "list_attempts": "Of its trainings and evaluations, over all its runs.",
    "get_preview": "Made once, at the upload.",
    "create_job": "It waits for a worker: the highest `priority` first, then the tenant with the fewest running jobs.",
    "list_jobs": _PAGED,
    "get_job": "`latest` and `best` are evaluated snapshots; `alarms` lists what the curve says against the training.",
    "cancel_job": "At once where no worker has it, else when its process has ended. Asking twice is no error.",
    "pause_job": "At once where no worker has it, else when the training has saved its state.",
    "resume_job": "It goes to the end of the queue, and on from its last state.",
    "list_metrics": "Numbers compare under one `protocol_hash` only; they stay when their generator goes.",
    "list_losses": "Each point is the mean over its share of the run.",
    "get_curve": "Points of one protocol are one line.",
    "get_comparison": "Jobs without a common protocol, or on different pictures, are refused with what differs.",
    "list_backtrackings": _PAGED,
    "get_evaluation": "A point of a curve, or a backtracking; ask again until its status is `done` or `failed`.",
    "cancel_evaluation": "One that a worker computes at this moment is called off as well.",
    "list_generations": f"Of its files each tells the main one and the preview; asked by id, it tells all. {_PAGED}",
    "get_generation": "Ask again until its status is `done`, `failed` or `cancelled`.",
    "get_generation_file": _FILE,
    "get_generation_part": f"Its `url` is told with the generation. {_FILE}",
    "delete_generation": "One that waits or is being made becomes `cancelled`; one that is over goes, with its files.",
    "list_exports": _PAGED,
    "get_export": "Ask again until its status is `done`, `failed` or `cancelled`; `facts` tell how near it is to the "
    "original.",
    "get_export_file": _FILE,
    "delete_export": "As of a generation.",
    "list_events": f"`seq` counts from 1 without gaps. {_PAGED}",
    "list_checkpoints": "`generator` is a safetensors file to use, `state` a complete training state to go on from.",
    "get_checkpoint": "Its size and sha256 are those of the file.",
    "patch_checkpoint": "A pinned one is kept whatever the job's retention says.",
    "get_checkpoint_file": _FILE,
    "list_samples": "By images seen; each cell of the grid has the same latent in all of them. A family may show "
    "more of each snapshot, under a `kind` of its own: SAGAN its `attention`.",
    "get_sample_file": _FILE,
    "get_picture": _FILE,
    "list_deliveries": f"Their states, attempts and last errors. {_PAGED}",
    "redeliver": "It keeps its id, and has all its attempts before it again.",
    "get_webhook_secret": "Made when it is first asked for. Needs the scope `admin`.",
    "rotate_webhook_secret": "A second rotation within a day ends the first secret. Needs the scope `admin`.",
    "list_models": "Every option of a configuration with its range and default.",
    "list_workers": "Of a job that is another tenant's, a worker does not tell the id.",
    "healthz": "It asks nothing else: for a probe of liveness.",
    "readyz": "Kept for a second: for a probe of readiness.",
}
