// The page uses the same endpoints as any other client.
import { Viewer } from "./viewer.js";

const FIRST_POLL_MS = 300;
const LONGEST_POLL_MS = 2000;
const settings = JSON.parse(document.getElementById("settings").textContent);
const element = (id) => document.getElementById(id);
const form = element("form");
const key = element("key");
const viewer = new Viewer(document.querySelector("#mesh canvas"));
let image = null; // a data URI
let running = null; // the id of the job that is shown

function show(message, failed = false) {
  element("status").textContent = message;
  element("status").classList.toggle("error", failed);
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key.value) headers.Authorization = `Bearer ${key.value}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok || answer.status === "failed") throw new Error(answer.message);
  return answer;
}

function choose(file) {
  if (!file) return;
  if (file.size > settings.max_bytes) {
    show(`The image is larger than ${settings.max_bytes / 2 ** 20} MiB.`, true);
    return;
  }
  const reader = new FileReader();
  reader.onload = () => {
    image = reader.result;
    const picture = new Image();
    picture.alt = "The chosen image";
    picture.src = image;
    element("object").replaceChildren(picture);
    show("Press “Make the mesh”.");
  };
  reader.readAsDataURL(file);
}

function request() {
  const body = { image };
  for (const field of form.elements) {
    if (!field.name) continue;
    body[field.name] = field.type === "checkbox" ? field.checked : field.value;
  }
  if (!["glb", "obj"].includes(body.output_format)) body.texture = 0;
  return body;
}

function clear() {
  viewer.clear();
  element("files").replaceChildren();
  for (const id of ["preview", "video"]) {
    element(id).hidden = true;
    element(id).removeAttribute("src");
  }
}

// Links are relative to the page, so that they work behind a proxy with a path prefix.
const link = (job, suffix) => `files/${job.meta.file_prefix}/${job.meta.file_prefix}${suffix}`;

async function showPreview(job) {
  const address = `files/${job.meta.file_prefix}/preview.png?${Date.now()}`;
  const found = await fetch(address, { method: "HEAD" });
  if (!found.ok) return;
  element("preview").src = address;
  element("preview").hidden = false;
}

async function showResult(job) {
  const seconds = job.generationTime ? `, in ${job.generationTime.toFixed(1)} s` : "";
  show(`Job ${job.id} is done${seconds}. Seed ${job.meta.seed}.`);
  element("preview").hidden = true;
  for (const format of settings.formats) {
    const anchor = document.createElement("a");
    anchor.href = link(job, `.${format}`);
    anchor.download = "";
    anchor.textContent = format.toUpperCase();
    element("files").append(anchor);
  }
  if (job.meta.render) {
    element("video").src = link(job, ".mp4");
    element("video").hidden = false;
  }
  await viewer.show(link(job, ".glb"));
}

async function follow(job) {
  let pause = FIRST_POLL_MS;
  while (job.status === "processing" && running === job.id) {
    show(`Job ${job.id}: ${job.message}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 1.5, LONGEST_POLL_MS);
    await showPreview(job);
    job = await post(`api/v6/3d/fetch/${job.id}`, {});
  }
  if (running === job.id) await showResult(job);
}

async function run(event) {
  event.preventDefault();
  if (!image) return show("Choose an image first.", true);
  if (key.value) sessionStorage.setItem("key", key.value);
  clear();
  show("Sending the image …");
  try {
    const job = await post("api/v6/3d/image_to_3d", request());
    running = job.id;
    element("stop").disabled = false;
    await follow(job);
  } catch (error) {
    show(error.message, true);
  }
  element("stop").disabled = true;
  return undefined;
}

async function stop() {
  // A cancelled job counts as failed, so `post` raises the message to show.
  await post(`api/v6/3d/cancel/${running}`, {}).catch((error) => show(error.message, true));
  running = null;
}

function options(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}

options(form.elements.model_id, settings.models, settings.model);
options(form.elements.output_format, settings.formats, "glb");
[form.elements.resolution.min, form.elements.resolution.max] = settings.resolution;
element("key-row").hidden = !settings.needs_key;
key.value = sessionStorage.getItem("key") ?? "";
element("example-row").hidden = !settings.example;
form.addEventListener("submit", run);
element("stop").addEventListener("click", stop);
element("file").addEventListener("change", (event) => choose(event.target.files[0]));
element("example").addEventListener("click", async () => {
  choose(await (await fetch("page/example.png")).blob());
});
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  element("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
