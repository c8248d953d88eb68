FROM maven:3 AS build
RUN mvn -B dependency:go-offline
RUN mvn -o package
RUN mvn --version
FROM eclipse-temurin:21
RUN ./mvnw -Dmaven.repo.local=/m package
RUN ./gradlew build
RUN gradle -g /g build && gradle --version
ENV GRADLE_USER_HOME=/gh MAVEN_OPTS=-Dmaven.repo.local=/o
RUN gradle build
RUN mvn verify
