FROM python:3.13 AS root
RUN pip install -r requirements.txt
RUN python3 -m pip install --no-cache-dir wheel
RUN pip3.12 install x && rm -rf ~/.cache
RUN pip install x && rm -rf $HOME/.cache
RUN pip list && pip --version
RUN --mount=type=cache,target=/root/.cache pip install x
RUN pip install --cache-dir=/c x && pip install --cache-dir "$C" y
RUN poetry install --no-root
RUN poetry install --no-cache && pip wheel .

FROM python:3.13 AS none
ENV PIP_NO_CACHE_DIR=1
RUN pip install x
FROM none
ENV PIP_NO_CACHE_DIR=0 PIP_CACHE_DIR=/pips
RUN pip install x
FROM python:3.13 AS app
RUN useradd -m -u 1001 -s /bin/bash app && adduser --disabled-password --gecos "" other
USER app
RUN pip install x
USER other
RUN pip install x
USER 1001:100
RUN pip install x
USER unknown
RUN pip install x
USER $WHO
RUN pip install x
