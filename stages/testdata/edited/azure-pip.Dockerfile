FROM python:3.12-slim
ARG INDEX_URL
ENV PIP_EXTRA_INDEX_URL=$INDEX_URL
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY . .
CMD ["python", "-m", "app"]
