// Typesets the formulas, lays the parts out on pages of 1280 x 720, then starts reveal.js.
// How much fits on a page depends on the fonts of the machine, so it is measured here and not when the deck is made.
const stage = document.getElementById("stage");
const slides = document.querySelector(".slides");
const LOW = 720 - 46; // where a page's content ends: the slide number stands below
const WIDE = 1192, HIGH = 560; // of a picture, at most
const SHRUNK = 0.68; // of its height: so far a picture may shrink for the text beside it
const ROOMY = 220; // so much must be left on a page for a table or a list to begin there and go on overleaf
const DIVISIBLE = "div, ul, ol, table, tbody";

// By how many pixels the content of a page is too long for it.
function excess(page) {
  const low = Math.max(...[...page.children].map((child) => child.getBoundingClientRect().bottom));
  return low - page.getBoundingClientRect().top - LOW;
}

// Whether the content fits, perhaps with a picture a little smaller.
function fits(page) {
  const more = excess(page);
  if (more <= 0) return true;
  const image = [...page.querySelectorAll("img")].find((image) => image.height - more >= SHRUNK * image.dataset.full);
  if (!image) return false;
  resize(image, image.height - more);
  return excess(page) <= 0;
}

function resize(image, height) {
  image.width = Math.floor((image.width * height) / image.height);
  image.height = Math.floor(height);
}

// Keep "as follows:" and what follows in one piece.
function together(nodes, parent) {
  const announces = (node) => node?.matches("p") && node.textContent.trim().endsWith(":");
  if (parent.className === "kept") return nodes;
  const pieces = [];
  for (const [i, node] of nodes.entries()) {
    if (announces(nodes[i - 1])) {
      pieces.at(-1).append(node);
    } else if (announces(node)) {
      pieces.push(document.createElement("div"));
      pieces.at(-1).className = "kept";
      pieces.at(-1).append(node);
    } else {
      pieces.push(node);
    }
  }
  return pieces;
}

// The pages of one part, each a <div class="page"> that begins with the heading; the first with that of the part above
// it, too, where nothing else stands there.
function pagesOf(part, above) {
  const [heading, ...groups] = part.children;
  const pages = [];
  let page, title, empty, closed = true;

  function newPage() {
    page = document.createElement("div");
    page.className = "page";
    page.append(...(pages.length ? [] : above), heading.cloneNode(true));
    if (pages.length && heading.tagName === "H1") page.firstChild.outerHTML = `<h2>${heading.innerHTML}</h2>`;
    if (title) page.lastChild.textContent = title;
    stage.replaceChildren(page);
    pages.push(page);
    empty = true;
  }

  // Put a node into the innermost of its shells, on this page or the next; what is larger than a page is divided.
  function put(node, shells) {
    const placed = () => {
      (shells.at(-1) ?? page).append(node);
      return fits(page);
    };
    const room = -excess(page);
    let done = placed();
    if (!done && !empty && !node.matches("tbody") && !(node.matches("table, ul, ol") && room > ROOMY)) {
      node.remove();
      newPage();
      shells.forEach((shell, i) => {
        shells[i] = shell.cloneNode(false);
        if (shell.tHead) shells[i].append(shell.tHead.cloneNode(true));
        if (shell.matches("ol")) shells[i].start = shell.start + shell.children.length;
        (shells[i - 1] ?? page).append(shells[i]);
      });
      done = placed();
    }
    if (!done && node.matches(DIVISIBLE)) {
      const shell = node.cloneNode(false);
      node.replaceWith(shell);
      shells.push(shell);
      for (const child of together([...node.children], node)) put(child, shells);
      shells.pop();
    }
    empty = false;
  }

  for (const group of groups) {
    title = group.dataset.title;
    if (closed || group.dataset.own) newPage();
    closed = group.dataset.last;
    put(group, []);
  }
  if (!pages.length) newPage();
  return pages;
}

// The largest size that leaves room for the heading; no more than twice its own, for it would blur.
function size(image) {
  const [width, height] = [image.getAttribute("width"), image.getAttribute("height")];
  resize(image, height * Math.min(WIDE / width, HIGH / height, 2));
  image.dataset.full = image.height;
}

async function start() {
  await MathJax.startup.promise;
  stage.append(document.getElementById("parts").content);
  await MathJax.typesetPromise([stage]);
  // The speaker view knows nothing of MathJax's own style.
  stage.querySelectorAll(".notes mjx-assistive-mml").forEach((double) => double.remove());
  stage.querySelectorAll(".notes svg").forEach((formula) => (formula.style.maxWidth = "100%"));
  stage.querySelectorAll("img").forEach(size);
  for (const pre of stage.querySelectorAll("pre")) {
    pre.classList.toggle("long", Math.max(...pre.textContent.split("\n").map((line) => line.length)) > 80);
  }
  const parts = [...stage.children];
  let stack, notes, above = [];
  for (const [i, part] of parts.entries()) {
    if (part.dataset.level < 3) slides.append((stack = document.createElement("section")));
    if (part.children.length === 1 && parts[i + 1]?.dataset.level > part.dataset.level) {
      above = [...part.children];
      continue;
    }
    for (const page of pagesOf(part, above.splice(0))) {
      const said = page.querySelector(".notes");
      if (!said && notes) page.append(notes.cloneNode(true));
      notes = said ?? notes;
      const slide = document.createElement("section");
      slide.append(page);
      stack.append(slide);
    }
  }
  stage.remove();
  await Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, controls: false, progress: true, slideNumber: "c/t",
    hash: true, navigationMode: "linear", transition: "none", backgroundTransition: "none", scrollActivationWidth: 0,
    pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1, plugins: [RevealNotes],
  });
  document.documentElement.dataset.ready = "true";
}

start();
