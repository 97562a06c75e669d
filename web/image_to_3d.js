/** The pack's extension of ComfyUI's page. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const SAVER = "ImageTo3D_SaveMesh";
const PACK = decodeURIComponent(new URL(import.meta.url).pathname).split("/").at(-2);

/** Show a node's first saved file in it, with the viewer of core's Save 3D Model. */
function addViewer(node) {
  const core = app.extensions.find(({ name }) => name === "Comfy.SaveGLB");
  const create = core?.getCustomWidgets?.().PREVIEW_3D;
  const isPreviewed = node.outputs.some((_, slot) =>
    node.getOutputNodes(slot)?.some(({ type }) => type === "Preview3D"),
  );
  if (!create || !node.graph || isPreviewed) return;
  const { widget } = create(node);
  // Keep its value out of workflows and prompts: a changed prompt would run the node again.
  widget.serialize = false;
  widget.options = { ...widget.options, serialize: false };
  const { constructor, size: [...saved] } = node;
  constructor.comfyClass = "SaveGLB"; // core's extension adds its viewer to this class only
  try {
    core.nodeCreated(node, app);
  } finally {
    constructor.comfyClass = SAVER;
  }
  if (node.properties["Scene Config"]) node.setSize(saved); // a workflow saved with the viewer
}

/** Sort this pack's templates by number: ComfyUI lists them in the order of the file system. */
function sortTemplates() {
  const load = api.getWorkflowTemplates.bind(api);
  api.getWorkflowTemplates = async () => {
    const templates = await load();
    templates[PACK]?.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    return templates;
  };
}

app.registerExtension({
  name: "ImageTo3D.Page",
  init: sortTemplates,
  nodeCreated(node) {
    // Wait until a loaded node has its links.
    if (node.constructor.comfyClass === SAVER) setTimeout(addViewer, 0, node);
  },
});
