FROM ruby:3.4
RUN bundle install
RUN bundle config set --local path vendor/bundle && bundle install
RUN bundle exec rake
ENV BUNDLE_DEPLOYMENT=1
RUN bundle install
FROM debian
RUN bundle install
FROM composer:2 AS vendor
RUN composer install --no-dev
FROM php:8
RUN composer install
RUN composer update --no-cache
RUN composer clear-cache && COMPOSER_CACHE_DIR=/c composer require x
