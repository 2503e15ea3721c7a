// The page at /docs: /openapi.json made readable.

const METHODS = ["get", "head", "post", "put", "patch", "delete"];

function make(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Text with `code` in backticks, as nodes. */
const prose = (text = "") => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));

function table(rows) {
  return make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("tbody", {},
    ...rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name),
      ...cells.map((cell) => make("td", {}, ...cell)))))));
}

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.items) return `list of ${kind(schema.items)}`;
  return [].concat(schema.type ?? []).join(" or ");
}

/** The kind of `schema`, as a link where it has a section of its own. */
function named(schema) {
  const name = kind(schema);
  return schema?.$ref ? make("a", { href: `#schema-${name}` }, name) : name;
}

/** What a request carries: a form, the bytes of a file, or JSON. */
function body(schema) {
  if (!schema) return "the bytes";
  return schema.properties ? `field ${Object.keys(schema.properties).join(", ")}` : named(schema);
}

function parameterRow({ name, in: place, required, description, schema, example }) {
  const facts = [required ? "required" : place, kind(schema)];
  if (schema.default !== undefined) facts.push(`else ${schema.default}`);
  if (example !== undefined) facts.push(`as in ${example}`);
  return [name, prose(description), [make("span", { className: "soft" }, facts.join(", "))]];
}

function responseRows(responses, api) {
  return Object.entries(responses).map(([status, response]) => {
    const answer = response.$ref ? api.components.responses[response.$ref.split("/").pop()] : response;
    const bodies = Object.entries(answer.content ?? {}).map(([media, { schema }]) => {
      return make("div", { className: "soft" }, media, " ", named(schema));
    });
    return [status === "default" ? "others" : status, prose(answer.description), bodies];
  });
}

function sample(source, api) {
  const base = /^https?:/.test(api.servers[0].url) ? "" : "http://127.0.0.1:8080";
  const text = base ? source.replaceAll(base, location.origin) : source;
  const button = make("button", { type: "button", className: "quiet", textContent: "Copy" });
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch {
      getSelection().selectAllChildren(button.previousSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  return make("div", { className: "sample" }, make("pre", { tabIndex: 0 }, text), button);
}

function exampleOf({ content = {} }) {
  const example = content["application/json"]?.example;
  return example && make("pre", { tabIndex: 0 }, JSON.stringify(example, null, 2));
}

function route(path, method, operation, api) {
  const parts = [
    make("h3", { className: "route" }, make("span", { className: `method ${method}` },
      method.toUpperCase()), make("span", {}, path)),
    make("p", {}, make("strong", {}, operation.summary), ". ", ...prose(operation.description))];
  const heading = (text) => make("h4", {}, text);
  if (operation.parameters.length) {
    parts.push(heading("Parameters"), table(operation.parameters.map(parameterRow)));
  }
  if (operation.requestBody) {
    const bodies = Object.entries(operation.requestBody.content).map(([media, { schema }]) =>
      [media, [body(schema)]]);
    parts.push(heading("Body"), table(bodies));
  }
  parts.push(heading("Answers"), table(responseRows(operation.responses, api)));
  const example = Object.values(operation.responses).map(exampleOf).find(Boolean);
  for (const { source } of operation["x-codeSamples"] ?? []) {
    parts.push(heading("Example"), sample(source, api));
    if (example) parts.push(example);
  }
  return make("section", { id: operation.operationId }, ...parts);
}

function schemaSection([name, schema]) {
  const rows = Object.entries(schema.properties).map(([field, property]) =>
    [field, [kind(property)], prose(property.description)]);
  return make("section", { id: `schema-${name}` }, make("h3", {}, name),
    ...(schema.description ? [make("p", {}, ...prose(schema.description))] : []), table(rows));
}

function draw(api) {
  const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => [path, method, methods[method]]));
  const parts = [make("h1", {}, `${api.info.title} API`),
    make("p", { className: "lead" }, ...prose(api.info.description))];
  for (const { name, description } of api.tags) {
    parts.push(make("h2", {}, description));
    for (const [path, method, operation] of routes) {
      if (operation.tags.includes(name)) parts.push(route(path, method, operation, api));
    }
  }
  parts.push(make("h2", {}, "What the answers hold"),
    ...Object.entries(api.components.schemas).map(schemaSection));
  document.getElementById("main").replaceChildren(...parts);
  document.getElementById("contents").replaceChildren(...routes.map(([, , operation]) =>
    make("a", { href: `#${operation.operationId}` }, operation.summary)));
  document.getElementById("version").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  draw(await (await fetch("/openapi.json")).json());
} catch (error) {
  document.getElementById("main").replaceChildren(
    make("p", { className: "notice bad" }, `The gateway does not answer (${error.message}).`));
}
