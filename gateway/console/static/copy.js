// Lets what is meant to be copied be copied: what has a button for it, and digests, which are shown accompanyed.
const said = document.createElement("p");
said.className = "unseen";
said.setAttribute("role", "status");

function copies(button, text) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    said.textContent = "Copied.";
    button.classList.add("done");
    setTimeout(() => { said.textContent = ""; button.classList.remove("done"); }, 3000);
  });
}

function accompany(code) {
  const shown = code.closest("a") ?? code;
  const pair = document.createElement("span");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.title = "Copy the whole digest";
  button.setAttribute("aria-label", `Copy ${code.title || shown.title}`);
  copies(button, () => code.title || shown.title);
  pair.className = "nowrap";
  shown.replaceWith(pair);
  pair.append(shown, button);
}

if (navigator.clipboard) {
  document.body.append(said);
  for (const button of document.querySelectorAll("button[data-copy]")) {
    copies(button, () => document.getElementById(button.dataset.copy).textContent);
    button.hidden = false;
  }
  document.querySelectorAll("code[title*=':'], a[title*=':'] > code").forEach(accompany);
}
