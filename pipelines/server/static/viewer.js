// Show GLB files of this server: one mesh with vertex colours or a texture.

const VERTEX = `#version 300 es
uniform mat4 camera;
in vec3 position, normal;
in vec3 color;
in vec2 uv;
out vec3 seenNormal, seenColor;
out vec2 seenUv;
void main() {
  seenNormal = mat3(camera) * normal;
  seenColor = color;
  seenUv = uv;
  vec4 seen = camera * vec4(position, 1);
  float near = 0.1, far = 10.0, f = 3.2;
  gl_Position = vec4(f * seen.xy, (far + near) / (near - far) * seen.z
    + 2.0 * far * near / (near - far), -seen.z);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D image;
uniform bool textured;
in vec3 seenNormal, seenColor;
in vec2 seenUv;
out vec4 shown;
void main() {
  vec3 n = normalize(gl_FrontFacing ? seenNormal : -seenNormal);
  float light = 0.45 + 0.55 * max(dot(n, normalize(vec3(0.3, 0.5, 0.8))), 0.0);
  vec3 color = textured ? texture(image, seenUv).rgb : pow(seenColor, vec3(1.0 / 2.2));
  shown = vec4(color * light, 1);
}`;
const COMPONENTS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4 };
const [GLB_MAGIC, HEADER, CHUNK_HEADER] = [0x46546c67, 12, 8];

/** Read a GLB file into arrays, and into an image if it has a texture. */
async function readGlb(buffer) {
  const words = new DataView(buffer);
  if (words.getUint32(0, true) !== GLB_MAGIC) throw new Error("The mesh is not a GLB file.");
  const length = words.getUint32(HEADER, true);
  const text = new Uint8Array(buffer, HEADER + CHUNK_HEADER, length);
  const tree = JSON.parse(new TextDecoder().decode(text));
  const start = HEADER + 2 * CHUNK_HEADER + length;
  const bytes = (view) =>
    new Uint8Array(buffer, start + (view.byteOffset ?? 0), view.byteLength);
  const array = (index) => {
    if (index === undefined) return null;
    const { bufferView, byteOffset = 0, componentType, count, type } = tree.accessors[index];
    const width = WIDTHS[type];
    const Kind = COMPONENTS[componentType];
    const data = bytes(tree.bufferViews[bufferView]).slice(byteOffset);
    return { width, values: new Kind(data.buffer, 0, count * width) };
  };
  const [{ attributes, indices, material }] = tree.meshes[0].primitives;
  const base = tree.materials?.[material]?.pbrMetallicRoughness?.baseColorTexture;
  let image = null;
  if (base) {
    const { bufferView, mimeType } = tree.images[tree.textures[base.index].source];
    const blob = new Blob([bytes(tree.bufferViews[bufferView])], { type: mimeType });
    image = await createImageBitmap(blob);
  }
  return {
    positions: array(attributes.POSITION),
    normals: array(attributes.NORMAL),
    colors: array(attributes.COLOR_0),
    uvs: array(attributes.TEXCOORD_0),
    faces: array(indices),
    image,
  };
}

/** Average the normals of the faces around each vertex. */
function smoothNormals(positions, faces) {
  const normals = new Float32Array(positions.length);
  for (let i = 0; i < faces.length; i += 3) {
    const [a, b, c] = [3 * faces[i], 3 * faces[i + 1], 3 * faces[i + 2]];
    const edge = (to, k) => positions[to + k] - positions[a + k];
    for (let k = 0; k < 3; k++) {
      const [l, m] = [(k + 1) % 3, (k + 2) % 3];
      const component = edge(b, l) * edge(c, m) - edge(b, m) * edge(c, l);
      for (const vertex of [a, b, c]) normals[vertex + k] += component;
    }
  }
  return normals;
}

/** Return the centre of a mesh, and half the diagonal of its bounding box. */
function boundsOf(positions) {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  positions.forEach((value, i) => {
    low[i % 3] = Math.min(low[i % 3], value);
    high[i % 3] = Math.max(high[i % 3], value);
  });
  const center = low.map((value, k) => (value + high[k]) / 2);
  return { center, radius: Math.hypot(...low.map((value, k) => high[k] - value)) / 2 || 1 };
}

export class Viewer {
  #gl;
  #canvas;
  #program;
  #turn = { azimuth: 0.6, elevation: 0.3, distance: 3.2 };
  #mesh = null;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#gl = canvas.getContext("webgl2", { antialias: true });
    if (this.#gl) this.#prepare();
  }

  /** Load a GLB file and show it. */
  async show(address) {
    if (!this.#gl) return;
    const response = await fetch(address);
    if (!response.ok) throw new Error("The mesh could not be loaded.");
    this.#upload(await readGlb(await response.arrayBuffer()));
    this.#draw();
  }

  /** Remove the mesh. */
  clear() {
    this.#mesh = null;
    if (this.#gl) this.#draw();
  }

  #prepare() {
    const gl = this.#gl;
    this.#program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.#program, shader);
    }
    gl.linkProgram(this.#program);
    gl.useProgram(this.#program);
    gl.enable(gl.DEPTH_TEST);
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
    });
    this.#canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#move(-event.movementX / 150, event.movementY / 150, 1);
    });
    this.#canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#move(0, 0, Math.exp(event.deltaY / 1000));
    });
    this.#canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
      if (steps[event.key]) this.#move(...steps[event.key], 1);
    });
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
  }

  #move(azimuth, elevation, zoom) {
    const turn = this.#turn;
    turn.azimuth += azimuth;
    turn.elevation = Math.max(-1.5, Math.min(1.5, turn.elevation + elevation));
    turn.distance = Math.max(1.5, Math.min(9, turn.distance * zoom));
    this.#draw();
  }

  #upload({ positions, normals, colors, uvs, faces, image }) {
    const gl = this.#gl;
    gl.bindVertexArray(gl.createVertexArray());
    const smooth = normals ?? { width: 3, values: smoothNormals(positions.values, faces.values) };
    const attributes = { position: positions, normal: smooth, color: colors, uv: uvs };
    for (const [name, data] of Object.entries(attributes)) {
      const place = gl.getAttribLocation(this.#program, name);
      if (place < 0) continue;
      if (!data) {
        gl.vertexAttrib3f(place, 0.6, 0.6, 0.6);
        continue;
      }
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data.values, gl.STATIC_DRAW);
      const kind = data.values instanceof Float32Array ? gl.FLOAT
        : data.values instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
      gl.vertexAttribPointer(place, data.width, kind, true, 0, 0);
      gl.enableVertexAttribArray(place);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(faces.values), gl.STATIC_DRAW);
    if (image) {
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
      gl.generateMipmap(gl.TEXTURE_2D);
    }
    gl.uniform1i(gl.getUniformLocation(this.#program, "textured"), image ? 1 : 0);
    this.#canvas.dataset.faces = faces.values.length / 3;
    this.#mesh = { count: faces.values.length, ...boundsOf(positions.values) };
  }

  #draw() {
    const gl = this.#gl;
    const canvas = this.#canvas;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const side = Math.min(canvas.width, canvas.height);
    gl.viewport((canvas.width - side) / 2, (canvas.height - side) / 2, side, side);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.#mesh) return;
    gl.uniformMatrix4fv(gl.getUniformLocation(this.#program, "camera"), false, this.#camera());
    gl.drawElements(gl.TRIANGLES, this.#mesh.count, gl.UNSIGNED_INT, 0);
  }

  /** Return the 4x4 matrix, column by column, from the mesh to the camera. The mesh gets radius 1. */
  #camera() {
    const { center, radius } = this.#mesh;
    const { azimuth, elevation, distance } = this.#turn;
    const [sa, ca] = [Math.sin(azimuth), Math.cos(azimuth)];
    const [se, ce] = [Math.sin(elevation), Math.cos(elevation)];
    const rows = [[ca, 0, -sa], [-se * sa, ce, -se * ca], [ce * sa, se, ce * ca]];
    const scaled = rows.map((row) => row.map((value) => value / radius));
    const shift = scaled.map((row) => -row.reduce((sum, value, k) => sum + value * center[k], 0));
    shift[2] -= distance;
    return [0, 1, 2].flatMap((k) => [...scaled.map((row) => row[k]), 0]).concat([...shift, 1]);
  }
}
